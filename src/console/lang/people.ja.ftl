# The pages of a group, a person and a moment. $by, $group and $time are put in as links: a translation may place them in
# any order.

# A group, now or then
group-tabs = このページの内容
group-tab-members = メンバー
group-tab-events = 出来事
group-tab-fields = フィールドと属性
group-tab-topics = トピック
group-tab-raw = 生の記録
group-members = メンバー
group-of-most = 上限
group-owner = オーナー
group-creator = 作成者
group-created = 作成日時
group-destroyed = 解散日時
group-introduction = 紹介
group-notification = お知らせ
group-face-url = 画像
group-join-option = 参加方法
group-invite-option = 招待方法
group-mute = 全員ミュート
group-muted = はい
group-not-muted = いいえ
group-verified = Tencent とのプロフィール照合
group-members-verified = Tencent とのメンバー照合
group-never = なし
group-not-yet = この時点では、このグループについて何も分かっていませんでした。

role-owner = オーナー
role-admin = 管理者
role-member = メンバー
member-user = ユーザー
member-role = 役割
member-card = 名札
member-since = 参加日時
member-came = 参加の経緯
member-until = 終了日時
member-went = 終了の経緯
members-present = メンバー
members-left = 退出した人
members-all = 両方
members-none = 条件に合うメンバーがいないか、分かっていません。
members-none-here = 調べた範囲にはいません。次のページで続けます。
came-invited-by = { $by } が招待
came-invited = 招待
came-applied-by = 参加（操作者 { $by }）
came-applied = 参加
came-by = 操作者 { $by }
came-otherwise = Tencent の用語: { $how }
went-removed-by = { $by } が削除（{ $how }）
went-removed = 削除（{ $how }）
went-left = 退出
went-otherwise = Tencent の用語: { $how }
went-unknown = 不明（グループの終了、または Tencent の一覧に記載なし）

fields-key = キー
fields-kind = 種別
fields-value = 値
fields-written = 書き込み日時
fields-field = フィールド
fields-attribute = 属性
fields-none = フィールドも属性も分かっていません。
fields-no-times = 各値の書き込み日時は「出来事」にあります。
fields-cut = 表示しきれないものがあります。すべては API で取得できます。
fields-too-many = 過去のページで保持できる数を超えるフィールドと属性があります。
topics-none = トピックは分かっていません。
topics-of-now = トピックは当時ではなく現在のものです。
topic-name = 名前
topic-id = ID
topic-status = 状態
topic-creator = 作成者
topic-created = 作成日時

filters = 絞り込み
filter-kind = 種類
filter-person = 人物
filter-source = 情報源
filter-after = これより後
filter-before = これより前
filter-user-part = ID または名札の一部
filter-status = 対象
filter-role = 役割
filter-part = 立場
entries-none = 該当する出来事は分かっていません。
entries-none-here = 新しい記録には該当がありません。次のページでさらに前を探します。
entries-pruned = これより古い記録は整理されました。この時刻以降はすべて揃っています：
as-table = 同じ内容の表（CSV）

# Time rail
rail-title = 時間軸: メンバー数と出来事
rail-none = 履歴が多いため線は描かれません。下の移動と入力欄は使えます。
rail-most = 最多メンバー数:
rail-steps = 出来事ごとの移動
step-earlier = 前へ
step-later = 次へ
step-now = 現在
step-first = これより前はありません
step-last = 現在です
moment-field = この時点の状態を表示
moment-field-app = 時点
moment-show = 表示

# The past
past-label = このページは過去を表示しています
past-title = 当時の状態
past-shows = 過去を見ています:
past-to-now = 現在に戻る
past-everywhere = その時の全体の出来事
past-not-compared = 現在のグループが大きすぎるため、以後の出入りは比較できません。
past-came = 後から参加
past-gone = 以後いなくなった人

# Raw entries
raw-title = 生の記録
raw-back = グループに戻る
raw-logged = このページの閲覧は、閲覧者の名前とともにアクセスログに記録されます。
raw-time = 時刻
raw-received = 受信
raw-source = 情報源
raw-digest = ダイジェスト
raw-request-id = リクエスト ID
raw-reason = 理由
raw-platform = 端末
raw-address = クライアントのアドレス
raw-bytes = バイト数
raw-hex = UTF-8 ではないため、各バイトを 16 進数で示します。
raw-cut = 本文は続きます。全体は API で取得できます。

# What is not known
unknowns-title = ここで分からないことと、その理由
unknown-before = このグループの最初の記録より前のこと。最初の記録:
unknown-room = この配信ルームのメンバー: ミラーの対象外です。
unknown-members = ほかのメンバーの有無: 作成も完全な一覧も分かっていません。
unknown-mutes = メンバーのミュート: コールバックでは通知されず、Tencent からの取得でのみ分かります。
unknown-messages = メッセージとオンライン状態: ミラーには保存されません。

# A person
person-groups-now = 現在のグループ
person-groups-left = 退出したグループ
person-no-groups-now = ミラーが知る限り、どのグループにもいません。
person-no-groups-left = ミラーが知る限り、退出したグループはありません。
person-group = グループ
person-history = すべてのグループでの行動と受けた操作
person-first-seen = 最初の記録
person-last-seen = 最後の記録
person-platforms = 端末
person-addresses = クライアントのアドレス
person-unknowns = 端末は最近の操作のものです。ミラーには人物のプロフィール（名前、画像、友だち）はありません。
part-operator = 行った
part-member = 受けた
part-owner = オーナー
suffered-nothing = ミラーが知る限り、最近この人物が受けた操作はありません。
suffered-separator = 、

# A moment of the app
moment-title = ある時点の出来事
moment-window = 範囲
moment-around = この前後:
moment-newest = 最新の記録
moment-none = その時間の出来事は分かっていません。
moment-counts = このページの記録の種類別件数
moment-part = 件数はこのページのものです。続きは次のページにあります。
moment-no-group = 読み取れるグループなし

past-difference = 当時 { $then } 人、現在 { $now } 人: 後から { $came } 人が参加し、{ $gone } 人がいなくなりました。
moment-minutes = 前後 { $count } 分
suffered-removed = { $known ->
    [yes] { $time } に { $by } が { $group } から削除
   *[no] { $time } に { $group } から削除
 }
suffered-admin = { $known ->
    [yes] { $time } に { $by } が { $group } の管理者に変更
   *[no] { $time } に { $group } の管理者に変更
 }
suffered-ordinary = { $known ->
    [yes] { $time } に { $by } が { $group } の一般メンバーに変更
   *[no] { $time } に { $group } の一般メンバーに変更
 }
suffered-card = { $known ->
    [yes] { $time } に { $by } が { $group } の名札を変更
   *[no] { $time } に { $group } の名札を変更
 }
suffered-with = 5 分以内にほか { $count } 人
suffered-with-at-least = 5 分以内にほか { $count } 人以上
