# Sentences about ledger entries; see events.en.ftl for what the placeholders are.

event-created = { $known ->
    [yes] { $by } が { $group } を作成しました
   *[no] { $group } が作成されました
 }
event-created-here = { $known ->
    [yes] { $by } がグループを作成しました
   *[no] グループが作成されました
 }
event-joined = { $people } が { $group } に参加しました
event-joined-here = { $people } が参加しました
event-invited = { $known ->
    [yes] { $by } が { $people } を { $group } に招待して追加しました
   *[no] { $people } が招待により { $group } に参加しました
 }
event-invited-here = { $known ->
    [yes] { $by } が { $people } を招待して追加しました
   *[no] { $people } が招待により参加しました
 }
event-left = { $people } が { $group } を退出しました
event-left-here = { $people } が退出しました
event-removed = { $known ->
    [yes] { $by } が { $people } を { $group } から削除しました
   *[no] { $people } が { $group } から削除されました
 }
event-removed-here = { $known ->
    [yes] { $by } が { $people } を削除しました
   *[no] { $people } が削除されました
 }
event-exited = { $people } は { $group } のメンバーではなくなりました
event-exited-here = { $people } はメンバーではなくなりました
event-destroyed = { $known ->
    [yes] { $by } が { $group } を解散しました
   *[no] { $group } が解散されました
 }
event-destroyed-here = { $known ->
    [yes] { $by } がグループを解散しました
   *[no] グループが解散されました
 }
event-profile = { $known ->
    [yes] { $by } が { $group } のプロフィールを変更しました
   *[no] { $group } のプロフィールが変更されました
 }
event-profile-here = { $known ->
    [yes] { $by } がプロフィールを変更しました
   *[no] プロフィールが変更されました
 }
event-admin = { $known ->
    [yes] { $by } が { $people } を { $group } の管理者にしました
   *[no] { $people } が { $group } の管理者になりました
 }
event-admin-here = { $known ->
    [yes] { $by } が { $people } を管理者にしました
   *[no] { $people } が管理者になりました
 }
event-ordinary = { $known ->
    [yes] { $by } が { $people } を { $group } の一般メンバーにしました
   *[no] { $people } が { $group } の一般メンバーになりました
 }
event-ordinary-here = { $known ->
    [yes] { $by } が { $people } を一般メンバーにしました
   *[no] { $people } が一般メンバーになりました
 }
event-card = { $known ->
    [yes] { $by } が { $group } での { $people } の名札を変更しました
   *[no] { $group } での { $people } の名札が変更されました
 }
event-card-here = { $known ->
    [yes] { $by } が { $people } の名札を変更しました
   *[no] { $people } の名札が変更されました
 }
event-member = { $known ->
    [yes] { $by } が { $group } での { $people } のメンバー情報を変更しました
   *[no] { $group } での { $people } のメンバー情報が変更されました
 }
event-member-here = { $known ->
    [yes] { $by } が { $people } のメンバー情報を変更しました
   *[no] { $people } のメンバー情報が変更されました
 }
event-attributes = { $known ->
    [yes] { $by } が { $group } の属性を変更しました
   *[no] { $group } の属性が変更されました
 }
event-attributes-here = { $known ->
    [yes] { $by } が属性を変更しました
   *[no] 属性が変更されました
 }
event-owner = { $known ->
    [yes] { $by } が { $people } を { $group } のオーナーにしました
   *[no] { $people } が { $group } のオーナーになりました
 }
event-owner-here = { $known ->
    [yes] { $by } が { $people } をオーナーにしました
   *[no] { $people } がオーナーになりました
 }
event-ownerless = { $group } にはオーナーがいなくなりました
event-ownerless-here = グループにはオーナーがいなくなりました
event-topic-created = { $known ->
    [yes] { $by } が { $group } にトピック { $topic } を作成しました
   *[no] { $group } にトピック { $topic } が作成されました
 }
event-topic-created-here = { $known ->
    [yes] { $by } がトピック { $topic } を作成しました
   *[no] トピック { $topic } が作成されました
 }
event-topic-destroyed = { $known ->
    [yes] { $by } が { $group } のトピック { $topic } を削除しました
   *[no] { $group } のトピック { $topic } が削除されました
 }
event-topic-destroyed-here = { $known ->
    [yes] { $by } がトピック { $topic } を削除しました
   *[no] トピック { $topic } が削除されました
 }
event-topic-changed = { $known ->
    [yes] { $by } が { $group } のトピック { $topic } を変更しました
   *[no] { $group } のトピック { $topic } が変更されました
 }
event-topic-changed-here = { $known ->
    [yes] { $by } がトピック { $topic } を変更しました
   *[no] トピック { $topic } が変更されました
 }
event-topic-unnamed = { $known ->
    [yes] { $by } が { $group } のトピックを変更しました（どのトピックかはコールバックに示されていません）
   *[no] { $group } のトピックが変更されました（どのトピックかはコールバックに示されていません）
 }
event-topic-unnamed-here = { $known ->
    [yes] { $by } がトピックを変更しました（どのトピックかはコールバックに示されていません）
   *[no] トピックが変更されました（どのトピックかはコールバックに示されていません）
 }
event-unread = 解釈できません: { $group } に関する { $command }
event-unread-here = 解釈できません: { $command }
event-unread-nowhere = 解釈できません: { $command }（読み取れるグループがありません）
event-foreign = { $group } に関する { $command }: 別のバージョンが記録したため、ここでは読めません
event-foreign-here = { $command }: 別のバージョンが記録したため、ここでは読めません

read-profile = Tencent から取得: { $group } のプロフィール
read-profile-here = Tencent から取得: プロフィール
read-gone = Tencent から取得: { $group } は存在しません
read-gone-here = Tencent から取得: グループは存在しません
read-members = Tencent から取得: { $group } のメンバー
read-members-here = Tencent から取得: メンバー
read-attributes = Tencent から取得: { $group } の属性
read-attributes-here = Tencent から取得: 属性
read-topics = Tencent から取得: { $group } のトピック
read-topics-here = Tencent から取得: トピック

detail-with = 一緒に: { $people }
detail-by = 操作者: { $by }
detail-owner = オーナー: { $people }
detail-owner-before = 以前のオーナー: { $people }
detail-card = 名札: { $value }
detail-type = 種類: { $value }
detail-name = 名前: { $value }
detail-introduction = 紹介: { $value }
detail-notification = お知らせ: { $value }
detail-face-url = 画像: { $value }
detail-field = フィールド { $key }: { $value }
detail-attribute = 属性 { $key }: { $value }
detail-attribute-gone = 属性 { $key }: 削除
detail-attributes-only = ほかの属性はなし
detail-attributes-cleared = すべての属性が削除されました
detail-attributes-unclear = 何が変わったかはコールバックに示されていません
detail-listed = 一覧のメンバー { $count } 人
detail-missing = 一覧にいなくなった人: { $people }
detail-topics = トピック { $count } 件
detail-topic = トピック: { $topic }
detail-word = Tencent の用語: { $word }
detail-partial = 一部を解釈できません: { $value }
detail-reason = 理由: { $value }
detail-platform = 端末: { $value }
detail-address = アドレス: { $value }
detail-more = ほか { $count } 件
value-empty = （空）
list-separator = 、
list-more = ほか { $count } 人

deed-create = 作成
deed-join = 参加
deed-leave = 退出
deed-removal = メンバーの削除
deed-destroy = 解散
deed-profile = プロフィールの変更
deed-member = 役割・名札の変更
deed-attributes = 属性の変更
deed-owner = オーナーの変更
deed-topic = トピックの変更
deed-read = Tencent から取得
deed-unread = 解釈できない
