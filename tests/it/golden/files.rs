//! The directories of golden data, one for each release: what is in them, who writes them, and that none is written twice.
//!
//! `UPDATE_GOLDEN=0.1.0 cargo test --locked --test it golden` writes the directory of a version that is not released yet, by
//! the present program (`writer`). Once CHANGELOG.md has a section of that version the command refuses: what was written
//! stands for files and databases that are out there.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use group_mirror::store::Database;
use group_mirror::store::schema::{self, MIGRATOR};

use super::writer;
use crate::support::postgres::{TestDatabase, on_a_thread};

/// What each directory has.
pub(super) const FILES: [&str; 16] = [
    "answers.json",
    "callbacks.jsonl",
    "cursors.json",
    "database.copy",
    "kept.jsonl",
    "migrations.txt",
    "schema.txt",
    "spool-ledger.copy",
    "spool.jsonl",
    "spool/database-id",
    "spool/kept-0000000000",
    "spool/kept.mark",
    "spool/outbox-number",
    "spool/receipt.mark",
    "spool/spool.mark",
    "spool/spool.redb.gz",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/golden")
}

/// The golden data of one release.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub(super) version: String,
}

impl Release {
    /// Of a version that is about to be released.
    pub(super) fn of(version: &str) -> Self {
        Self { version: version.to_owned() }
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let path = root().join(&self.version).join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if !name.ends_with(".gz") {
            return bytes;
        }
        let mut unpacked = Vec::new();
        GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).unwrap();
        unpacked
    }

    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_str(&self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Removes what an earlier run has written.
    pub(super) fn clear(&self) {
        let dir = root().join(&self.version);
        if dir.exists() {
            std::fs::remove_dir_all(dir).unwrap();
        }
    }

    /// Writes a file; one whose name ends with `.gz` packed.
    pub(super) fn write(&self, name: &str, content: &[u8]) {
        let path = root().join(&self.version).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = content.to_vec();
        if name.ends_with(".gz") {
            let mut packed = GzEncoder::new(Vec::new(), Compression::best());
            packed.write_all(content).unwrap();
            bytes = packed.finish().unwrap();
        }
        std::fs::write(path, bytes).unwrap();
    }

    /// The migrations of the release: number, name, and checksum as `_sqlx_migrations` has it.
    pub(super) fn migrations(&self) -> Vec<(i64, String, String)> {
        let lines = self.text("migrations.txt");
        let rows = lines.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        rows.map(|row| {
            let [number, checksum, name] = row[..] else { panic!("migrations.txt: {row:?}") };
            (number.parse().unwrap(), name.to_owned(), checksum.to_owned())
        })
        .collect()
    }

    /// A database whose schema is that of the release.
    pub(super) async fn empty_database(&self) -> TestDatabase {
        let database = TestDatabase::create_empty().await;
        let newest = self.migrations().last().unwrap().0;
        MIGRATOR.run_to(newest, &mut database.connect().await).await.unwrap();
        database
    }

    /// A database that the release has left, with the schema of the present program.
    pub(super) async fn database(&self) -> TestDatabase {
        let database = self.empty_database().await;
        super::copy::load(&mut database.connect().await, &self.text("database.copy")).await;
        let pools = Database::new(&database.url).unwrap();
        schema::migrate(&pools).await.unwrap();
        pools.close().await;
        database
    }
}

/// True once the change log has a section of the version.
fn is_released(version: &str) -> bool {
    let changes = Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md");
    let heading = format!("## {version}");
    let text = std::fs::read_to_string(changes).unwrap();
    text.lines().any(|line| {
        line.strip_prefix(&heading)
            .is_some_and(|rest| !rest.starts_with(|mark: char| ".-".contains(mark) || mark.is_alphanumeric()))
    })
}

/// The versions that have golden data, in the order of their names.
fn versions() -> Vec<String> {
    let entries = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Whether it went well: what has failed is not tried by every test.
static WRITTEN: OnceLock<bool> = OnceLock::new();

/// Writes the directory that `UPDATE_GOLDEN` names.
fn update() {
    let Ok(version) = std::env::var("UPDATE_GOLDEN") else { return };
    assert!(
        version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok()),
        "UPDATE_GOLDEN is {version:?}; it names the version that is about to be released, such as 0.1.0"
    );
    assert!(
        !is_released(&version),
        "CHANGELOG.md has a section of {version}: golden data of a version that is released is never written anew"
    );
    on_a_thread(move || async move { writer::write(&Release::of(&version)).await });
}

/// Each release that has golden data; before the first look the one is written that `UPDATE_GOLDEN` names.
pub(super) fn releases() -> Vec<Release> {
    let went_well = WRITTEN.get_or_init(|| std::panic::catch_unwind(update).is_ok());
    assert!(*went_well, "the golden data was not written");
    let found: Vec<Release> = versions().iter().map(|version| Release::of(version)).collect();
    assert!(!found.is_empty(), "there is no golden data");
    found
}

#[test]
fn every_release_has_all_of_its_golden_data_and_nothing_else() {
    for release in releases() {
        let dir = root().join(&release.version);
        let mut found = Vec::new();
        for below in ["", "spool/"] {
            for entry in std::fs::read_dir(dir.join(below)).unwrap().map(|entry| entry.unwrap()) {
                if entry.file_type().unwrap().is_file() {
                    found.push(format!("{below}{}", entry.file_name().to_str().unwrap()));
                }
            }
        }
        found.sort();
        assert_eq!(found, FILES, "{}", release.version);
    }
}

#[test]
fn the_version_of_the_program_has_golden_data_once_it_is_released() {
    let version = env!("CARGO_PKG_VERSION");
    let has_data = releases().iter().any(|release| release.version == version);
    assert!(
        has_data || !is_released(version),
        "{version} is in CHANGELOG.md and has no golden data: CONTRIBUTING.md says how a release is made"
    );
}

/// A database notes the checksum of each migration that it has run, and a program with another one refuses it.
#[test]
fn released_migrations_are_never_edited() {
    for release in releases() {
        for (number, name, checksum) in release.migrations() {
            let now = MIGRATOR.iter().find(|migration| migration.version == number);
            let now = now
                .map(|migration| (migration.description.replace(' ', "_"), writer::hex(&migration.checksum)));
            assert!(
                now == Some((name.clone(), checksum)),
                "migrations/{number:04}_{name}.sql was released with {} and has changed since: every database that has run it \
                 would be refused. Put it back as it was (`git checkout v{} -- migrations`) and write what is to change into a \
                 new migration with the next number",
                release.version,
                release.version
            );
        }
    }
}
