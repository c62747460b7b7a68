# The pages of a group, a person and a moment. $by, $group and $time are put in as links: a translation may place them in
# any order.

# A group, now or then
group-tabs = 本页内容
group-tab-members = 成员
group-tab-events = 发生了什么
group-tab-fields = 字段与群属性
group-tab-topics = 话题
group-tab-raw = 原始记录
group-members = 成员
group-of-most = 上限
group-owner = 群主
group-creator = 创建者
group-created = 创建时间
group-destroyed = 解散时间
group-introduction = 简介
group-notification = 公告
group-face-url = 头像
group-join-option = 加群方式
group-invite-option = 邀请方式
group-mute = 全员禁言
group-muted = 是
group-not-muted = 否
group-verified = 资料与腾讯核对
group-members-verified = 成员与腾讯核对
group-never = 从未
group-not-yet = 在那一时刻，对该群组一无所知。

role-owner = 群主
role-admin = 管理员
role-member = 普通成员
member-user = 用户
member-role = 角色
member-card = 群名片
member-since = 加入时间
member-came = 如何加入
member-until = 离开时间
member-went = 如何离开
members-present = 现有成员
members-left = 已离开
members-all = 全部
members-none = 没有符合条件的成员，或尚不知道任何成员。
members-none-here = 已查找的范围内没有；下一页继续。
came-invited-by = 由 { $by } 邀请
came-invited = 受邀
came-applied-by = 加入（操作者 { $by }）
came-applied = 自行加入
came-by = 操作者 { $by }
came-otherwise = 腾讯用语：{ $how }
went-removed-by = 被 { $by } 移出（{ $how }）
went-removed = 被移出（{ $how }）
went-left = 退出
went-otherwise = 腾讯用语：{ $how }
went-unknown = 不明（群组已结束，或腾讯的列表中不再有该用户）

fields-key = 键
fields-kind = 类别
fields-value = 值
fields-written = 写入时间
fields-field = 字段
fields-attribute = 群属性
fields-none = 没有已知的字段或群属性。
fields-no-times = 各值的写入时间见“发生了什么”。
fields-cut = 还有未显示的内容；完整内容可通过 API 获取。
fields-too-many = 字段与群属性过多，过去的页面无法保留。
topics-none = 没有已知的话题。
topics-of-now = 此处显示的是现在的话题，而非当时的。
topic-name = 名称
topic-id = ID
topic-status = 状态
topic-creator = 创建者
topic-created = 创建时间

filters = 筛选
filter-kind = 类型
filter-person = 人员
filter-source = 来源
filter-after = 晚于
filter-before = 早于
filter-user-part = ID 或群名片的一部分
filter-status = 范围
filter-role = 角色
filter-part = 身份
entries-none = 没有已知的此类记录。
entries-none-here = 较新的记录中没有此类内容；下一页会查找更早的记录。
entries-pruned = 更早的记录已被清理；自此时间起记录完整：
as-table = 同样内容的表格（CSV）

# Time rail
rail-title = 时间轴：成员数与事件
rail-none = 该群组的历史过长，无法一次画出曲线。下方的步进和输入框仍可使用。
rail-most = 成员最多时：
rail-steps = 逐个事件移动
step-earlier = 更早
step-later = 更晚
step-now = 现在
step-first = 没有更早的
step-last = 已是现在
moment-field = 显示当时的群组
moment-field-app = 时刻
moment-show = 显示

# The past
past-label = 本页显示的是过去
past-title = 当时的状态
past-shows = 您正在查看过去：
past-to-now = 回到现在
past-everywhere = 当时各处发生了什么
past-not-compared = 群组现在过大，无法比较此后的进出情况。
past-came = 后来加入
past-gone = 此后离开

# Raw entries
raw-title = 原始记录
raw-back = 返回群组
raw-logged = 每次查看本页都会连同查看者的名称写入访问日志。
raw-time = 时间
raw-received = 接收
raw-source = 来源
raw-digest = 摘要
raw-request-id = 请求 ID
raw-reason = 原因
raw-platform = 平台
raw-address = 客户端地址
raw-bytes = 字节数
raw-hex = 字节不是 UTF-8，逐字节以十六进制显示。
raw-cut = 正文未完；完整内容可通过 API 获取。

# What is not known
unknowns-title = 此处未知的内容及原因
unknown-before = 该群组第一条记录之前的一切。第一条记录：
unknown-room = 该音视频聊天室的成员：未作镜像。
unknown-members = 是否还有其他成员：既不知道创建回调，也没有完整的成员列表。
unknown-mutes = 成员的禁言：回调不会通知，只有从腾讯读取时才知道。
unknown-messages = 消息与在线状态：镜像不保存。

# A person
person-groups-now = 现在所在的群组
person-groups-left = 已离开的群组
person-no-groups-now = 据镜像所知，不在任何群组中。
person-no-groups-left = 据镜像所知，没有离开过任何群组。
person-group = 群组
person-history = 在所有群组中的操作与被操作
person-first-seen = 首次出现
person-last-seen = 最近出现
person-platforms = 平台
person-addresses = 客户端地址
person-unknowns = 平台取自该人员最近的操作。镜像不含人员资料：没有昵称、头像或好友。
part-operator = 操作者
part-member = 被操作者
part-owner = 群主
suffered-nothing = 据镜像所知，最近没有针对此人的操作。
suffered-separator = ，

# A moment of the app
moment-title = 某一时刻发生了什么
moment-window = 范围
moment-around = 前后：
moment-newest = 最新的记录
moment-none = 那段时间没有已知的记录。
moment-counts = 本页记录按类型计数
moment-part = 以上计数仅限本页；后面还有更多记录。
moment-no-group = 没有可读取的群组

past-difference = 当时 { $then } 人，现在 { $now } 人：后来加入 { $came } 人，离开 { $gone } 人。
moment-minutes = 前后 { $count } 分钟
suffered-removed = { $known ->
    [yes] 于 { $time } 被 { $by } 移出 { $group }
   *[no] 于 { $time } 被移出 { $group }
 }
suffered-admin = { $known ->
    [yes] 于 { $time } 被 { $by } 设为 { $group } 的管理员
   *[no] 于 { $time } 成为 { $group } 的管理员
 }
suffered-ordinary = { $known ->
    [yes] 于 { $time } 被 { $by } 设为 { $group } 的普通成员
   *[no] 于 { $time } 成为 { $group } 的普通成员
 }
suffered-card = { $known ->
    [yes] { $group } 的群名片于 { $time } 被 { $by } 修改
   *[no] { $group } 的群名片于 { $time } 被修改
 }
suffered-with = 五分钟内另有 { $count } 人
suffered-with-at-least = 五分钟内至少另有 { $count } 人
