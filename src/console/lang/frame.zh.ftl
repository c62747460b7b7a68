# 每个页面的框架：首行、导航、选项、错误、登录。

nav = 页面
nav-live = 实时
nav-groups = 群组
nav-moment = 时刻
nav-parked = 搁置与拒绝
nav-health = 运行状况
nav-docs = API
docs-need-script = 此页面需要脚本。文档即上面的文件。
skip = 跳到正文
search-label = 群组 ID、用户 ID 或群名称的一部分
search-hint = 群组、用户或名称
search-button = 搜索
apps = 应用
caller = 登录身份：
log-out = 退出登录
foot-reads-only = 只读：这些页面不会更改任何群组

trust-good = 实时
trust-bad = 需要关注
trust-last-callback = 最近一次回调在{ $ago }
trust-no-callback = 尚无回调
trust-database-ok = 数据库正常
trust-database-away = 数据库不可用：回调暂存于本地队列
trust-database-away-alone = 数据库不可用：本地队列也无法接收回调
trust-database-unfit = 数据库无法使用
trust-spool = { $count ->
    [0] 本地队列为空
   *[other] 本地队列中有 { $shown } 条
 }
trust-spool-opening = 正在打开本地队列
trust-spool-failed = 本地队列无法写入
trust-parked = 搁置 { $shown } 条
trust-refused = { $count ->
    [0] 最近一小时无拒绝
   *[other] 最近一小时拒绝 { $shown } 条
 }
trust-gaps-open = { $count } 个未闭合的缺口
trust-gaps-closed = 所有缺口已闭合
trust-no-gap = 没有已知缺口
trust-stale = 连接已断开：此页显示的是断开前的内容，正在重新连接
ago-seconds = { $count } 秒前
ago-minutes = { $count } 分钟前
ago-hours = { $count } 小时前
ago-days = { $count } 天前

choices = 语言、时区、配色
choice-language = 语言
choice-zone = 时区
choice-theme = 配色
choice-keys = 单键
choice-all-zones = 全部时区
choices-keep = 保存
zones-meaning = 所有页面上的时间以及表单中填写的时间都使用此时区。
theme-auto = 跟随系统
theme-light = 浅色
theme-dark = 深色
keys-on = 作为快捷键
keys-off = 不使用
keys-title = 快捷键
key-search = 搜索
key-pause = 暂停实时列表
key-steps = 上一个、下一个事件
key-theme = 切换配色
key-keys = 显示快捷键

unknown = 未知
counted-at = 统计时间
pager = 列表的更多内容
pager-first = 第一页
list-as-csv = 以 CSV 下载此列表
pager-next = 下一页

login-title = 登录
login-token = API 令牌
login-hint = 服务设置 API_TOKEN 中的令牌。它不会出现在网址或日志中，会话在 12 小时后结束。
login-button = 登录
login-wrong = 此令牌无效。请确认令牌完整，并且属于 API_TOKEN。
login-too-many = 同时收到过多错误令牌。请等待几秒后重试。
login-other-site = 此表单来自其他网站的页面。请直接打开本页地址后重试。
login-plain-http = 本页通过未加密的 HTTP 从另一台机器打开，浏览器不会保留会话。请使用 HTTPS，或通过隧道访问本机。
login-not-needed = 本服务无需登录，仅限本机读取。

error-not-found = 未找到
error-not-found-meaning = 没有这样的页面、群组或用户。ID 必须完整，并区分大小写。
error-bad-request = 无法读取
error-bad-request-meaning = 地址或表单的一部分无法使用。
error-gone = 列表已变化
error-gone-meaning = 列表中的该位置已不存在，请从第一页开始。
error-pruned = 时间过于久远
error-pruned-meaning = 该时间的记录已被清理。请选择更晚的时间。
error-too-large = 数量过大
error-too-large-meaning = 此页所需的工作量超过一次读取的上限。请缩短时间范围或增加筛选条件。
error-unauthorized = 请登录
error-unauthorized-meaning = 此页面需要登录。
error-forbidden = 无权查看
error-forbidden-meaning = 登录有效，但没有查看此内容的权限。
error-method = 不支持此方式
error-method-meaning = 此地址使用 GET 读取。
error-unavailable = 暂时无法读取
error-unavailable-meaning = 镜像目前无法读取此内容。回调仍会被接收并保存；首行显示数据库状态。
error-internal = 服务内部错误
error-internal-meaning = 原因记录在服务日志中，可按下方的请求 ID 查找。
error-try-again = 重试
error-request-id = 请求 ID
