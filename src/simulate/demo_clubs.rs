//! The clubs and people of the demo world.
//!
//! Names are in six scripts and with emoji, ids in all forms that Tencent gives or takes: an id of the server, one of a
//! community, a custom one. Addresses are of the ranges that are kept for documentation.

/// The group whose creation begins the story; where a mirror has it, its creation says when the story began.
pub const DEMO_FIRST_GROUP: &str = "@TGS#2NIGHTOWLS";

/// One group of the story.
#[derive(Debug, Clone, Copy)]
pub(super) struct Club {
    pub(super) id: &'static str,
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
}

pub(super) const NIGHT_OWLS: Club = Club { id: DEMO_FIRST_GROUP, kind: "Public", name: "Night owls" };
pub(super) const YE_MAO_ZI: Club =
    Club { id: "@TGS#_OWLSREADCN", kind: "Community", name: "夜猫子读书会" };
pub(super) const KYOTO: Club =
    Club { id: "@TGS#1KYOTOWALK", kind: "Private", name: "京都さんぽと本の会" };
pub(super) const POETRY: Club =
    Club { id: "@TGS#2WINTERPOEM", kind: "Public", name: "Winter poetry circle ❄️" };
pub(super) const CRIME: Club =
    Club { id: "@TGS#2CRIMECLUB", kind: "Public", name: "Mystery & crime 🕵️" };
pub(super) const LISBOA: Club =
    Club { id: "book-swap-lisboa", kind: "Public", name: "Troca de livros 📚 Lisboa" };
pub(super) const CAIRO: Club =
    Club { id: "@TGS#2CAIROREAD", kind: "Public", name: "نادي القراءة في القاهرة" };
pub(super) const PANEL: Club =
    Club { id: "@TGS#3TUESPANEL", kind: "ChatRoom", name: "Tuesday panel: first chapters" };
pub(super) const TALK: Club =
    Club { id: "@TGS#aAUTHORTALK", kind: "AVChatRoom", name: "Author’s talk 🎙️ live" };
pub(super) const FUTURE: Club =
    Club { id: "@TGS#2SCIFI2049", kind: "Public", name: "未来小説クラブ 🚀" };
pub(super) const TEA: Club = Club { id: "@TGS#2TEABOOKS", kind: "Public", name: "Чай и книга ☕" };
/// Nothing is sent of its creation, as of a group that is older than the mirror.
pub(super) const LIBRARY: Club = Club { id: "@TGS#2OLDLIBRARY", kind: "Public", name: "" };

/// One user of the story: id, name card, and the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) id: &'static str,
    pub(super) card: &'static str,
    pub(super) client_ip: &'static str,
    pub(super) platform: &'static str,
}

const fn person(
    id: &'static str,
    card: &'static str,
    client_ip: &'static str,
    platform: &'static str,
) -> Person {
    Person { id, card, client_ip, platform }
}

/// Everyone whom a scene names.
pub(super) const CAST: [Person; 28] = [
    person("ana_77", "Ana", "203.0.113.7", "iOS"),
    person("boris-2", "Boris (moderator)", "203.0.113.24", "Web"),
    person("lena.fischer", "Lena F.", "198.51.100.31", "Web"),
    person("tomasz_w", "Tomasz 📖", "198.51.100.32", "Android"),
    person("aiko.m", "あいこ", "192.0.2.71", "iOS"),
    person("priya-n", "Priya", "198.51.100.90", "Android"),
    person("joao.silva", "João", "203.0.113.66", "Android"),
    person("sven_k", "Sven", "198.51.100.44", "Windows"),
    person("mei_lin", "林美", "192.0.2.15", "iOS"),
    person("kenji.sato", "佐藤健二（幹事）", "192.0.2.81", "Android"),
    person("chen_li", "陈立", "192.0.2.16", "Android"),
    person("wang_fang", "王芳🌙", "192.0.2.17", "iPad"),
    person("zhang_wei", "张伟", "192.0.2.18", "Windows"),
    person("li_na", "李娜", "192.0.2.19", "iOS"),
    person("yuki.t", "高橋 由紀", "192.0.2.82", "iOS"),
    person("haruto_i", "伊藤 陽斗", "192.0.2.83", "Android"),
    person("sakura_n", "中村さくら🌸", "192.0.2.84", "iOS"),
    person("olga.petrova", "Ольга", "203.0.113.120", "macOS"),
    person("dmitri_v", "Дмитрий", "203.0.113.121", "Web"),
    person("yusuf_a", "يوسف", "198.51.100.201", "Android"),
    person("layla.h", "ليلى", "198.51.100.202", "iOS"),
    person("noa_levi", "נועה", "198.51.100.203", "iOS"),
    person("chloe.d", "Chloé 🌻", "203.0.113.140", "iOS"),
    person("ines_v", "Inês", "203.0.113.67", "Web"),
    person("marco.r", "Marco", "203.0.113.141", "Android"),
    person("emma.b", "Emma", "198.51.100.33", "iOS"),
    person("anders_h", "Anders", "198.51.100.45", "macOS"),
    person("administrator", "", "203.0.113.9", "RESTAPI"),
];

/// Those who come and go between the scenes, and whom no scene names.
pub(super) const CROWD: [Person; 24] = [
    person("giulia_c", "Giulia", "203.0.113.150", "iOS"),
    person("pedro_s", "Pedro", "203.0.113.151", "Android"),
    person("hugo_p", "Hugo", "203.0.113.152", "Web"),
    person("sofia.g", "Sofía", "203.0.113.153", "iOS"),
    person("maja_k", "Maja", "198.51.100.61", "Android"),
    person("lucas_m", "Lucas", "203.0.113.154", "iPad"),
    person("zhao_lei", "赵磊", "192.0.2.20", "Android"),
    person("sun_yue", "孙悦", "192.0.2.21", "iOS"),
    person("zhou_jie", "周杰✨", "192.0.2.22", "Windows"),
    person("ren.k", "小林 蓮", "192.0.2.85", "iOS"),
    person("hina_y", "山本 陽菜", "192.0.2.86", "Android"),
    person("minjun.p", "박민준", "192.0.2.90", "Android"),
    person("seoyeon_k", "김서연", "192.0.2.91", "iOS"),
    person("fatima.z", "فاطمة", "198.51.100.204", "Android"),
    person("omar_k", "عمر", "198.51.100.205", "Web"),
    person("irina_s", "Ирина", "203.0.113.122", "iOS"),
    person("pavel-m", "Павел", "203.0.113.123", "Android"),
    person("nguyen_an", "An", "192.0.2.92", "Android"),
    person("oluwaseun", "Seun", "198.51.100.120", "Android"),
    person("amara.o", "Amara 🦋", "198.51.100.121", "iOS"),
    person("freya_j", "Freya", "198.51.100.46", "iOS"),
    person("liam.oc", "Liam", "198.51.100.34", "Web"),
    person("zoe_papa", "Ζωή", "203.0.113.160", "iOS"),
    person("mateo-r", "Mateo", "203.0.113.155", "Android"),
];

/// A user of [`CAST`] or [`CROWD`] by id.
pub(super) fn person_of(id: &str) -> Option<&'static Person> {
    CAST.iter().chain(&CROWD).find(|person| person.id == id)
}
