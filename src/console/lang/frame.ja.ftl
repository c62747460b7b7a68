# すべてのページの枠: 先頭行、ナビゲーション、設定、エラー、ログイン。

nav = ページ
nav-live = ライブ
nav-groups = グループ
nav-moment = 時点
nav-parked = 保留と拒否
nav-health = 稼働状態
nav-docs = API
docs-need-script = このページにはスクリプトが必要です。文書そのものは上のファイルです。
skip = 本文へ移動
search-label = グループ ID、ユーザー ID、またはグループ名の一部
search-hint = グループ、人、名前
search-button = 検索
apps = アプリ
caller = ログイン中:
log-out = ログアウト
foot-reads-only = 閲覧専用です。ここからグループが変更されることはありません

trust-good = ライブ
trust-bad = 確認が必要
trust-last-callback = 最後のコールバックは{ $ago }
trust-no-callback = コールバックはまだありません
trust-database-ok = データベース正常
trust-database-away = データベース停止中: コールバックはスプールで待機
trust-database-away-alone = データベース停止中: スプールもコールバックを受け付けません
trust-database-unfit = データベースを使用できません
trust-spool = { $count ->
    [0] スプールは空
   *[other] スプールに { $shown } 件
 }
trust-spool-opening = スプールを開いています
trust-spool-failed = スプールが受け付けません
trust-parked = 保留 { $shown } 件
trust-refused = { $count ->
    [0] 直近 1 時間の拒否なし
   *[other] 直近 1 時間に { $shown } 件拒否
 }
trust-gaps-open = 未解消の欠落 { $count } 件
trust-gaps-closed = 欠落はすべて解消済み
trust-no-gap = 既知の欠落なし
trust-stale = 接続が切れました。表示は切断前のものです。再接続しています
ago-seconds = { $count } 秒前
ago-minutes = { $count } 分前
ago-hours = { $count } 時間前
ago-days = { $count } 日前

choices = 言語・タイムゾーン・配色
choice-language = 言語
choice-zone = タイムゾーン
choice-theme = 配色
choice-keys = 単独キー
choice-all-zones = すべてのタイムゾーン
choices-keep = 保存
zones-meaning = すべてのページの時刻と、フォームに入力する時刻は、このタイムゾーンで扱われます。
theme-auto = システムに合わせる
theme-light = ライト
theme-dark = ダーク
keys-on = ショートカットとして使う
keys-off = 使わない
keys-title = キー操作
key-search = 検索
key-pause = ライブ一覧を一時停止
key-steps = 一つ前・一つ後の出来事
key-theme = 配色を切り替える
key-keys = このキー一覧を表示

unknown = 不明
counted-at = 集計時刻
pager = 一覧の続き
pager-first = 最初のページ
list-as-csv = この一覧を CSV で
pager-next = 次のページ

login-title = ログイン
login-token = API トークン
login-hint = サービス設定 API_TOKEN のトークンです。URL にもログにも残りません。セッションは 12 時間で終了します。
login-button = ログイン
login-wrong = このトークンは登録されていません。全体が入力されているか、API_TOKEN のものかを確認してください。
login-too-many = 誤ったトークンが一度に多く送られました。数秒待ってからやり直してください。
login-other-site = このフォームは別サイトのページから送信されました。アドレスを直接開いてやり直してください。
login-plain-http = このページは別のマシンから暗号化されていない HTTP で開かれています。ブラウザはセッションを保持しません。HTTPS か、このマシンへのトンネルで開いてください。
login-not-needed = このサービスはログイン不要です。同じマシンからのみ閲覧できます。

error-not-found = 見つかりません
error-not-found-meaning = そのページ、グループ、または人は登録されていません。ID は大文字と小文字も含めて正確に入力してください。
error-bad-request = 読み取れません
error-bad-request-meaning = アドレスまたはフォームの一部が使用できません。
error-gone = 一覧が変わりました
error-gone-meaning = 一覧のその位置はもう存在しません。最初のページから開いてください。
error-pruned = 古すぎて表示できません
error-pruned-meaning = その時点の記録は整理され、残っていません。もっと後の時刻を選んでください。
error-too-large = 量が多すぎます
error-too-large-meaning = このページは一回の読み取りの上限を超えます。期間を短くするか、条件を追加してください。
error-unauthorized = ログインしてください
error-unauthorized-meaning = このページにはログインが必要です。
error-forbidden = 権限がありません
error-forbidden-meaning = ログインは有効ですが、これを見る権限がありません。
error-method = この方法では開けません
error-method-meaning = このアドレスは GET で読み取ります。
error-unavailable = 現在読み取れません
error-unavailable-meaning = 現在ミラーから読み取れません。その間もコールバックは受け取られ、保存されています。データベースの状態は先頭行に表示されます。
error-internal = サービスの内部エラー
error-internal-meaning = 原因はサービスのログに、下のリクエスト ID とともに記録されています。
error-try-again = 再試行
error-request-id = リクエスト ID
