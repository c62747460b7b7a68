//! The one integration binary: the real service on port 0 against a real PostgreSQL, one folder per area.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "tests have clocks and settings of their own")]

mod support;

/// What callbacks mean and who wins.
mod rules {
    pub(crate) mod cases;
    mod digests;
    pub(crate) mod door;
    mod drift_classes;
    pub(crate) mod freshness;
    pub(crate) mod laws;
    mod oracle;
    mod presence;
    mod reads;
    mod receipt_times;
    mod same_reads;
    pub(crate) mod samples;
    mod spoiled;
    pub(crate) mod states;
    mod views;
}

/// What the public listener takes and answers.
mod receiver {
    mod callbacks;
    mod connections;
    mod fuzz;
    mod not_taken;
    mod parts;
    mod proxies;
}

/// In front of an existing backend: verdicts, fallbacks, notifications, loops.
mod relay {
    mod bytes;
    mod example;
    mod fallbacks;
    mod loops;
    mod notifications;
    mod tls;
    mod verdicts;
}

/// TLS of both listeners.
mod tls {
    mod handshakes;
    mod limits;
    mod reloads;
}

/// Answered means durable: stalls, kills, full disks, replicas.
mod durability {
    mod apps;
    pub(crate) mod chaos;
    mod crash;
    mod damage;
    mod deadlocks;
    mod disk_full;
    mod failover;
    mod failures;
    pub(crate) mod isolation;
    mod kept;
    mod poolers;
    mod read_standby;
    mod recovery;
    mod replicas;
    pub(crate) mod restart;
    mod sessions;
    mod shards;
    pub(crate) mod spool;
    mod start;
}

/// Upgrade and restore, as docs/operations.md says.
mod restore {
    mod dumps;
    mod machine;
    mod mirror;
    mod older_program;
    mod point_in_time;
    mod server_upgrade;
}

/// What the backend behind the mirror gets of after-callbacks.
mod outbox {
    pub(crate) mod first;
    pub(crate) mod late;
    mod outages;
}

/// The ledger folded again.
mod replay {
    pub(crate) mod as_of;
    mod group_at;
    mod ranges;
    pub(crate) mod rebuild;
    mod timeline;
    mod unpark;
}

/// Persons who are erased.
mod retention {
    mod bodies;
    mod erasing;
    mod generated_year;
    mod interrupted;
    mod late;
    mod odd_values;
    mod partition_plans;
    pub(crate) mod partitions;
    mod pruning;
    mod year;
    mod year_followers;
}

/// What the internal listener serves.
mod api {
    mod access;
    mod app_history;
    mod apps;
    mod at_least;
    mod bounds;
    mod callers;
    mod changes;
    mod dialects;
    mod differences;
    mod doors;
    mod exports;
    pub(crate) mod freshness;
    mod gaps;
    pub(crate) mod history;
    mod ledgers;
    mod members;
    mod openapi;
    mod parked;
    pub(crate) mod plans;
    mod plans_history;
    mod pruned;
    pub(crate) mod reads;
    mod refusals;
    mod stats_away;
    pub(crate) mod topics_stats;
    mod words;
}

/// Pages for people, over HTTP.
mod console {
    mod group_pages;
    mod limits;
    mod live;
    mod login;
    mod pages;
    mod people;
    mod sentences;
    mod visits;
    mod words;
}

/// The console in a headless Chromium.
mod browser {
    mod doors;
    mod hands;
    mod harmless;
    mod harness;
    mod moments;
    mod pages;
    mod pictures;
}

/// The feed and its followers while the world around them changes.
mod feed {
    mod crowd;
    mod filters;
    mod held_back;
    mod people;
    mod replicas;
    mod servers;
    mod stalled;
}

/// Tencent's REST API: answers, signature, client, and the fake that stands in for it.
mod tencent {
    mod answers;
    mod calls;
    mod check_calls;
    mod command;
    pub(crate) mod fake;
    mod fake_callbacks;
    mod fake_entrance;
    mod fake_reads;
    mod fake_rules;
    pub(crate) mod life;
    mod probe;
    mod rates_and_codes;
    pub(crate) mod scripted;
    mod usersig;
}

/// Groups read from Tencent: what is asked, what an answer may claim, and the passes that write it into the mirror.
mod reconcile {
    mod begun_anew;
    mod churn;
    mod codes;
    mod details;
    mod each_second;
    mod ends;
    mod harm;
    mod interrupted;
    mod lists;
    mod lives;
    mod moments;
    mod packed;
    pub(crate) mod passes;
    mod played_life;
    mod reader;
    mod second_pass;
    mod serving;
    mod whole_lives;
}

/// Settings, start, stop, exit codes of the binary.
mod process {
    mod apps;
    mod check;
    mod check_waits;
    mod config;
    mod databases;
    mod errors;
    mod files;
    mod interrupts;
    pub(crate) mod lifecycle;
    mod printed;
    mod ready;
    mod roles;
    mod scrape;
    mod sign;
    mod simulate;
    mod start;
    mod traces;
    mod within_a_minute;
}

/// What a release has written to disk or handed out, read by the present program.
mod golden {
    mod answers;
    mod copy;
    mod files;
    mod ledger;
    mod life;
    mod records;
    mod schema;
    mod spool;
    mod writer;
}

/// The house rules, the schema, and the documents.
mod house {
    mod citus;
    mod citus_forms;
    mod citus_server;
    mod deployment;
    mod diction;
    mod documents;
    mod schema;
    mod security;
    pub(crate) mod sources;
    mod statements;
    mod tidy;
    mod versions;
}
