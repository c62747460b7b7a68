# Sentences about ledger entries; see events.en.ftl for what the placeholders are.

event-created = { $known ->
    [yes] { $by } 创建了 { $group }
   *[no] { $group } 被创建
 }
event-created-here = { $known ->
    [yes] { $by } 创建了群组
   *[no] 群组被创建
 }
event-joined = { $people } 加入了 { $group }
event-joined-here = { $people } 加入了群组
event-invited = { $known ->
    [yes] { $by } 邀请 { $people } 加入了 { $group }
   *[no] { $people } 受邀加入了 { $group }
 }
event-invited-here = { $known ->
    [yes] { $by } 邀请 { $people } 加入了群组
   *[no] { $people } 受邀加入了群组
 }
event-left = { $people } 退出了 { $group }
event-left-here = { $people } 退出了群组
event-removed = { $known ->
    [yes] { $by } 将 { $people } 移出了 { $group }
   *[no] { $people } 被移出了 { $group }
 }
event-removed-here = { $known ->
    [yes] { $by } 移出了 { $people }
   *[no] { $people } 被移出
 }
event-exited = { $people } 已不在 { $group } 中
event-exited-here = { $people } 已不在群组中
event-destroyed = { $known ->
    [yes] { $by } 解散了 { $group }
   *[no] { $group } 已被解散
 }
event-destroyed-here = { $known ->
    [yes] { $by } 解散了群组
   *[no] 群组已被解散
 }
event-profile = { $known ->
    [yes] { $by } 修改了 { $group } 的资料
   *[no] { $group } 的资料被修改
 }
event-profile-here = { $known ->
    [yes] { $by } 修改了群资料
   *[no] 群资料被修改
 }
event-admin = { $known ->
    [yes] { $by } 将 { $people } 设为 { $group } 的管理员
   *[no] { $people } 成为 { $group } 的管理员
 }
event-admin-here = { $known ->
    [yes] { $by } 将 { $people } 设为管理员
   *[no] { $people } 成为管理员
 }
event-ordinary = { $known ->
    [yes] { $by } 将 { $people } 设为 { $group } 的普通成员
   *[no] { $people } 成为 { $group } 的普通成员
 }
event-ordinary-here = { $known ->
    [yes] { $by } 将 { $people } 设为普通成员
   *[no] { $people } 成为普通成员
 }
event-card = { $known ->
    [yes] { $by } 修改了 { $people } 在 { $group } 的群名片
   *[no] { $people } 在 { $group } 的群名片被修改
 }
event-card-here = { $known ->
    [yes] { $by } 修改了 { $people } 的群名片
   *[no] { $people } 的群名片被修改
 }
event-member = { $known ->
    [yes] { $by } 修改了 { $people } 在 { $group } 的成员资料
   *[no] { $people } 在 { $group } 的成员资料被修改
 }
event-member-here = { $known ->
    [yes] { $by } 修改了 { $people } 的成员资料
   *[no] { $people } 的成员资料被修改
 }
event-attributes = { $known ->
    [yes] { $by } 修改了 { $group } 的群属性
   *[no] { $group } 的群属性被修改
 }
event-attributes-here = { $known ->
    [yes] { $by } 修改了群属性
   *[no] 群属性被修改
 }
event-owner = { $known ->
    [yes] { $by } 将 { $people } 设为 { $group } 的群主
   *[no] { $people } 成为 { $group } 的群主
 }
event-owner-here = { $known ->
    [yes] { $by } 将 { $people } 设为群主
   *[no] { $people } 成为群主
 }
event-ownerless = { $group } 已没有群主
event-ownerless-here = 群组已没有群主
event-topic-created = { $known ->
    [yes] { $by } 在 { $group } 创建了话题 { $topic }
   *[no] { $group } 创建了话题 { $topic }
 }
event-topic-created-here = { $known ->
    [yes] { $by } 创建了话题 { $topic }
   *[no] 话题 { $topic } 被创建
 }
event-topic-destroyed = { $known ->
    [yes] { $by } 删除了 { $group } 的话题 { $topic }
   *[no] { $group } 的话题 { $topic } 被删除
 }
event-topic-destroyed-here = { $known ->
    [yes] { $by } 删除了话题 { $topic }
   *[no] 话题 { $topic } 被删除
 }
event-topic-changed = { $known ->
    [yes] { $by } 修改了 { $group } 的话题 { $topic }
   *[no] { $group } 的话题 { $topic } 被修改
 }
event-topic-changed-here = { $known ->
    [yes] { $by } 修改了话题 { $topic }
   *[no] 话题 { $topic } 被修改
 }
event-topic-unnamed = { $known ->
    [yes] { $by } 修改了 { $group } 的某个话题；回调未说明是哪一个
   *[no] { $group } 的某个话题被修改；回调未说明是哪一个
 }
event-topic-unnamed-here = { $known ->
    [yes] { $by } 修改了某个话题；回调未说明是哪一个
   *[no] 某个话题被修改；回调未说明是哪一个
 }
event-unread = 无法理解：关于 { $group } 的 { $command }
event-unread-here = 无法理解：{ $command }
event-unread-nowhere = 无法理解：{ $command }，没有可读取的群组
event-foreign = 关于 { $group } 的 { $command }：由其他版本写入，此处无法读取
event-foreign-here = { $command }：由其他版本写入，此处无法读取

read-profile = 从腾讯读取：{ $group } 的资料
read-profile-here = 从腾讯读取：群资料
read-gone = 从腾讯读取：{ $group } 不存在
read-gone-here = 从腾讯读取：群组不存在
read-members = 从腾讯读取：{ $group } 的成员
read-members-here = 从腾讯读取：群成员
read-attributes = 从腾讯读取：{ $group } 的群属性
read-attributes-here = 从腾讯读取：群属性
read-topics = 从腾讯读取：{ $group } 的话题
read-topics-here = 从腾讯读取：话题

detail-with = 同时加入：{ $people }
detail-by = 操作者：{ $by }
detail-owner = 群主：{ $people }
detail-owner-before = 原群主：{ $people }
detail-card = 群名片：{ $value }
detail-type = 类型：{ $value }
detail-name = 名称：{ $value }
detail-introduction = 简介：{ $value }
detail-notification = 公告：{ $value }
detail-face-url = 头像：{ $value }
detail-field = 字段 { $key }：{ $value }
detail-attribute = 属性 { $key }：{ $value }
detail-attribute-gone = 属性 { $key }：已删除
detail-attributes-only = 没有其他属性
detail-attributes-cleared = 所有属性已删除
detail-attributes-unclear = 回调未说明改了什么
detail-listed = 列表中有 { $count } 名成员
detail-missing = 不再出现在列表中：{ $people }
detail-topics = { $count } 个话题
detail-topic = 话题：{ $topic }
detail-word = 腾讯用语：{ $word }
detail-partial = 部分无法理解：{ $value }
detail-reason = 原因：{ $value }
detail-platform = 平台：{ $value }
detail-address = 地址：{ $value }
detail-more = 另有 { $count } 项
value-empty = （空）
list-separator = 、
list-more = 等，另有 { $count } 人

deed-create = 创建
deed-join = 加入
deed-leave = 退出
deed-removal = 移出
deed-destroy = 解散
deed-profile = 修改资料
deed-member = 修改角色或名片
deed-attributes = 修改群属性
deed-owner = 变更群主
deed-topic = 话题变更
deed-read = 从腾讯读取
deed-unread = 无法理解
