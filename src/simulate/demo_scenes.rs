//! The scenes of the demo world: what a support agent, a moderator or an operator is asked about.
//!
//! All times are UTC. The last day is the one before the first run, so that "last night" is last night for a while.

use serde_json::json;

use super::demo_clubs::{
    CAIRO, CRIME, FUTURE, KYOTO, LIBRARY, LISBOA, NIGHT_OWLS, PANEL, POETRY, TALK, TEA, YE_MAO_ZI,
};
use super::demo_story::{Story, accounts};

/// Those whom the moderator removes within five minutes, in this order.
const REMOVED: [&str; 6] = ["tomasz_w", "aiko.m", "priya-n", "joao.silva", "sven_k", "lena.fischer"];

/// All scenes.
pub(super) fn scenes(story: &mut Story) {
    night_owls(story);
    ye_mao_zi(story);
    asia(story);
    poetry_is_dismissed(story);
    crime_changes_hands(story);
    europe(story);
    rooms(story);
    last_night(story);
    unreadable(story);
}

fn night_owls(story: &mut Story) {
    let club = NIGHT_OWLS;
    let first = ["boris-2", "emma.b", "anders_h", "chloe.d", "marco.r", "ines_v"];
    let fields = json!([{ "Key": "region", "Value": "europe" }, { "Key": "language", "Value": "en" },
                        { "Key": "tier", "Value": "2" }]);
    story.create((0, 9, 12, 0), club, "ana_77", &first, &fields);
    let texts = json!({ "Introduction": "We read after ten. One book a fortnight.",
                        "Notification": "Next: “The Master and Margarita”, chapters 1–9",
                        "FaceUrl": "https://img.example.org/owls.png" });
    story.profile((0, 9, 20, 4), club, "ana_77", texts);
    story.role((0, 9, 21, 30), club, "ana_77", "boris-2", "Admin");
    story.card((0, 9, 40, 11), club, "boris-2");
    for (day, user) in (1..).zip(["lena.fischer", "tomasz_w", "priya-n", "joao.silva", "sven_k"]) {
        story.apply((day, 19, 3 + day, 20), club, user);
        story.card((day, 19, 9 + day, 2), club, user);
    }
    story.invite((6, 20, 15, 0), club, "boris-2", &["aiko.m", "kenji.sato"]);
    story.profile((7, 8, 0, 12), club, "ana_77", json!({ "Name": "Night owls reading club 🦉" }));
    story.profile((12, 8, 2, 40), club, "ana_77", json!({ "Notification": "" }));
}

fn ye_mao_zi(story: &mut Story) {
    let club = YE_MAO_ZI;
    let fields = json!([{ "Key": "region", "Value": "asia" }, { "Key": "language", "Value": "zh" }]);
    story.create((0, 12, 40, 7), club, "mei_lin", &["kenji.sato", "chen_li", "wang_fang"], &fields);
    story.topic((0, 12, 55, 0), club, "mei_lin", ("week", "每周一书"));
    story.topic((0, 12, 56, 10), club, "mei_lin", ("chat", "闲聊 ☕"));
    story.topic((0, 12, 58, 31), club, "mei_lin", ("meet", "线下活动"));
    story.invite((1, 1, 12, 0), club, "mei_lin", &["zhang_wei", "li_na", "yuki.t", "boris-2"]);
    story.role((1, 1, 20, 0), club, "mei_lin", "boris-2", "Admin");
    for (minute, user) in (30..).zip(["mei_lin", "chen_li", "wang_fang", "zhang_wei", "li_na"]) {
        story.card((2, 3, minute, 5), club, user);
    }
    let renamed = json!({ "TopicId": format!("{}@TOPIC#_week", club.id), "Name": "每周一书：《百年孤独》" });
    story.send((8, 11, 0, 0), club, "mei_lin", "AfterTopicInfoChanged", renamed);
    let ended = json!({ "TopicIdList": [format!("{}@TOPIC#_meet", club.id)] });
    story.send((10, 4, 5, 0), club, "mei_lin", "AfterTopicDestroyed", ended);
    let texts = json!({ "Introduction": "夜里读书，白天做梦。", "Notification": "本周五 21:00 线上讨论" });
    story.profile((11, 2, 0, 0), club, "mei_lin", texts);
}

fn asia(story: &mut Story) {
    story.create((1, 0, 5, 0), KYOTO, "kenji.sato", &["yuki.t", "haruto_i", "sakura_n"], &json!([]));
    story.profile(
        (1, 0, 9, 0),
        KYOTO,
        "kenji.sato",
        json!({ "Introduction": "鴨川沿いを歩いて、喫茶店で本の話をします。" }),
    );
    for (minute, user) in (10..).zip(["kenji.sato", "yuki.t", "haruto_i", "sakura_n"]) {
        story.card((1, 0, minute, 44), KYOTO, user);
    }
    story.leave((9, 13, 30, 0), KYOTO, "haruto_i");
    let fields = json!([{ "Key": "language", "Value": "ja" }, { "Key": "tier", "Value": "1" }]);
    story.create((3, 10, 0, 0), FUTURE, "sakura_n", &["kenji.sato", "chloe.d", "li_na"], &fields);
    story.profile((3, 10, 4, 0), FUTURE, "sakura_n", json!({ "Introduction": "日本語 / English / 中文 🚀" }));
    story.remove((11, 12, 31, 8), FUTURE, "sakura_n", &["chloe.d"]);
    story.invite((12, 12, 0, 0), FUTURE, "sakura_n", &["chloe.d", "aiko.m"]);
}

/// A group of which Tencent keeps nothing.
fn poetry_is_dismissed(story: &mut Story) {
    let first = ["dmitri_v", "noa_levi", "emma.b", "lena.fischer"];
    story.create((0, 16, 0, 0), POETRY, "olga.petrova", &first, &json!([{ "Key": "tier", "Value": "1" }]));
    story.profile(
        (0, 16, 3, 0),
        POETRY,
        "olga.petrova",
        json!({ "Introduction": "One poem a day until spring." }),
    );
    story.apply((4, 18, 20, 0), POETRY, "layla.h");
    story.card((4, 18, 22, 0), POETRY, "layla.h");
    story.apply((5, 7, 45, 0), POETRY, "yusuf_a");
    story.leave((9, 21, 5, 0), POETRY, "emma.b");
    let members = ["olga.petrova", "dmitri_v", "noa_levi", "lena.fischer", "layla.h", "yusuf_a"];
    let more =
        json!({ "Owner_Account": "olga.petrova", "Name": POETRY.name, "MemberList": accounts(&members) });
    story.send((11, 20, 2, 13), POETRY, "olga.petrova", "AfterGroupDestroyed", more);
}

fn crime_changes_hands(story: &mut Story) {
    let first = ["boris-2", "emma.b", "dmitri_v", "anders_h"];
    story.create((2, 17, 0, 0), CRIME, "marco.r", &first, &json!([{ "Key": "region", "Value": "europe" }]));
    story.role((2, 17, 6, 0), CRIME, "marco.r", "emma.b", "Admin");
    story.card((2, 17, 30, 0), CRIME, "emma.b");
    let more = json!({ "OldOwner_Account": "marco.r", "NewOwner_Account": "emma.b" });
    story.send((10, 9, 14, 0), CRIME, "marco.r", "AfterChangeGroupOwner", more);
    story.leave((10, 9, 20, 0), CRIME, "marco.r");
    story.role((10, 9, 31, 0), CRIME, "emma.b", "boris-2", "Admin");
}

fn europe(story: &mut Story) {
    let fields = json!([{ "Key": "region", "Value": "europe" }, { "Key": "language", "Value": "pt" }]);
    story.create((1, 15, 0, 0), LISBOA, "ines_v", &["joao.silva", "chloe.d"], &fields);
    let texts = json!({ "Introduction": "Traz um livro, leva outro. Sábados no Jardim da Estrela 🌳" });
    story.profile((1, 15, 2, 0), LISBOA, "ines_v", texts);
    story.card((1, 15, 40, 0), LISBOA, "ines_v");
    story.create((4, 6, 30, 0), TEA, "dmitri_v", &["olga.petrova", "ana_77"], &json!([]));
    story.card((4, 6, 42, 0), TEA, "olga.petrova");
    story.card((4, 6, 44, 0), TEA, "dmitri_v");
    let fields = json!([{ "Key": "language", "Value": "ar" }]);
    story.create((5, 14, 0, 0), CAIRO, "yusuf_a", &["layla.h", "noa_levi"], &fields);
    story.profile((5, 14, 5, 0), CAIRO, "yusuf_a", json!({ "Introduction": "كتاب كل شهر" }));
    for (minute, user) in (20..).zip(["yusuf_a", "layla.h", "noa_levi"]) {
        story.card((5, 14, minute, 0), CAIRO, user);
    }
    // Nothing was sent of the creation of this one, nor of its profile.
    story.apply((6, 10, 0, 0), LIBRARY, "ana_77");
    story.leave((8, 10, 30, 0), LIBRARY, "anders_h");
}

fn rooms(story: &mut Story) {
    story.create((6, 17, 55, 0), PANEL, "chloe.d", &["marco.r", "mei_lin"], &json!([]));
    story.apply((6, 18, 1, 0), PANEL, "lena.fischer");
    story.create((12, 18, 30, 0), TALK, "ana_77", &[], &json!([{ "Key": "tier", "Value": "3" }]));
    let seats = [("host", "ana_77"), ("seat_1", "mei_lin"), ("seat_2", "")];
    story.attributes((12, 18, 31, 0), TALK, "ana_77", "set", &seats);
    story.attributes((12, 18, 52, 0), TALK, "ana_77", "modify", &[("seat_2", "lena.fischer")]);
    story.attributes((12, 19, 40, 0), TALK, "ana_77", "delete", &[("seat_1", "")]);
}

/// What a moderator did: six removals within five minutes, one in another group, an invitation.
fn last_night(story: &mut Story) {
    let minutes = [(17, 8), (17, 49), (18, 30), (19, 12), (20, 20), (21, 3)];
    for ((minute, second), user) in minutes.into_iter().zip(REMOVED) {
        story.remove((13, 21, minute, second), NIGHT_OWLS, "boris-2", &[user]);
    }
    story.card((13, 21, 40, 0), NIGHT_OWLS, "emma.b");
    story.remove((13, 22, 4, 30), YE_MAO_ZI, "boris-2", &["zhang_wei"]);
    story.invite((13, 22, 30, 0), CRIME, "boris-2", &["noa_levi"]);
}

/// Two callbacks that are parked, one that is applied in part, and two that the mirror does not keep.
fn unreadable(story: &mut Story) {
    let muted = json!({ "Member_Account": "zhang_wei", "MuteTime": 3600 });
    story.send((13, 20, 13, 58), YE_MAO_ZI, "mei_lin", "AfterMemberMuted", muted);
    let count = json!({ "JoinType": "Apply", "NewMemberList": 3 });
    story.send((12, 9, 30, 0), KYOTO, "kenji.sato", "AfterNewMemberJoin", count);
    let list = json!([{ "Member_Account": "sven_k" }, { "Member_Account": { "id": "?" } }]);
    let part = json!({ "JoinType": "Invited", "NewMemberList": list });
    story.send((9, 9, 9, 9), LISBOA, "ines_v", "AfterNewMemberJoin", part);
    for minute in [2, 4] {
        let text = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "Who has chapter nine?" } }]);
        let more = json!({ "From_Account": "emma.b", "MsgSeq": minute, "Random": 7, "MsgBody": text });
        story.send((13, 20, minute, 0), NIGHT_OWLS, "emma.b", "AfterSendMsg", more);
    }
}
