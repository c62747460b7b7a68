//! Hands two things to the compiler: the commit that is built, and the bundled PostgreSQL programs.
//!
//! The commit is that of this repository, or what the environment of a package build says; without either it is `unknown`.
//! No time of the build is kept, so two builds of one commit are equal.
//!
//! The programs: it finds the archive inside the payload crate of the target, compares its SHA-256 with the table below,
//! and copies it to `OUT_DIR` under a fixed name. A wrong checksum fails the build; a payload that cannot be found only
//! costs the fallback and prints a warning.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to a build script through the environment")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Version of the payload crates. Change it together with the digests, the versions in `Cargo.toml`, and what
/// `src/embedded/bundled.rs` says of the PostgreSQL inside.
const PAYLOAD_VERSION: &str = "0.2.7";

/// Where the archive lies inside a payload crate.
const PAYLOAD_FILE: &str = "lib/pglite-runtime.tar.zst";

/// Path of an archive to use instead of the one in the payload crate, for builds that cannot run `cargo
/// metadata`.
const ARCHIVE_VARIABLE: &str = "GROUP_MIRROR_POSTGRES_ARCHIVE";

/// The commit, for builds outside a repository: those of a package.
const COMMIT_VARIABLE: &str = "GROUP_MIRROR_COMMIT";

/// The date of the sources in Unix seconds, as builds of packages set it: reproducible-builds.org/specs/source-date-epoch.
const DATE_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Target and SHA-256 of its archive.
const PAYLOADS: [(&str, &str); 4] = [
    ("x86_64-unknown-linux-gnu", "e3fb68210df2e40e534a5db9886a4af5d56d4ef9ca30adeefd437069bda95073"),
    ("aarch64-unknown-linux-gnu", "43e7cb060965465db4eb79080d171f6b00f7e137d3aeba94f3c05de64cc805a9"),
    ("aarch64-apple-darwin", "d269fc00265ac02b776878ebc8576c7fe6ca5be3d1387e15d5aa969aeaec62ee"),
    ("x86_64-apple-darwin", "799a11b915d3dd17a8538ac2367e77834b9e198c6aabbce90b58d53ac9b4adb2"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-env-changed={ARCHIVE_VARIABLE}");
    println!("cargo::rustc-check-cfg=cfg(has_bundled_postgres)");
    name_commit();
    if env::var_os("CARGO_FEATURE_BUNDLED_POSTGRES").is_none() {
        return;
    }
    let target = env::var("TARGET").unwrap_or_default();
    let Some((_, digest)) = PAYLOADS.iter().find(|(name, _)| *name == target) else {
        return;
    };
    match bundle(&target, digest) {
        Ok(()) => {
            println!("cargo::rustc-cfg=has_bundled_postgres");
            println!("cargo::rustc-env=BUNDLED_POSTGRES_DIGEST={digest}");
            println!("cargo::rustc-env=BUNDLED_POSTGRES_CRATE=pglite-rs-lib-{target} {PAYLOAD_VERSION}");
        }
        Err(Failure::NotFound(why)) => println!(
            "cargo::warning=built without bundled PostgreSQL programs ({why}); set {ARCHIVE_VARIABLE} to \
             {PAYLOAD_FILE} of pglite-rs-lib-{target} {PAYLOAD_VERSION} to name the archive yourself"
        ),
        Err(Failure::Wrong(why)) => println!("cargo::error={why}"),
    }
}

/// Names the commit and its date in Unix seconds; each is `unknown` where neither the environment nor a repository says it.
fn name_commit() {
    for variable in [COMMIT_VARIABLE, DATE_VARIABLE] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let given = |variable: &str| env::var(variable).ok().filter(|text| !text.trim().is_empty());
    let commit = given(COMMIT_VARIABLE).or_else(|| git(&["rev-parse", "HEAD"]));
    let date = given(DATE_VARIABLE).or_else(|| git(&["log", "-1", "--format=%ct"]));
    // What changes with a commit or with the branch: the log of HEAD grows; where none is kept, HEAD and its branch change.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["logs/HEAD", "HEAD"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
        if let Some(path) = path {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let text =
        |value: Option<String>| value.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo::rustc-env={COMMIT_VARIABLE}={}", text(commit));
    println!("cargo::rustc-env=GROUP_MIRROR_COMMIT_DATE={}", text(date));
}

/// What git says of this repository. Sources that were unpacked inside another one are not asked about: its commit is not theirs.
fn git(arguments: &[&str]) -> Option<String> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    if !root.join(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(&root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// Why the archive is not bundled.
enum Failure {
    /// The build goes on without it.
    NotFound(String),
    /// The build must stop.
    Wrong(String),
}

/// Copies the verified archive to `OUT_DIR/postgres.tar.zst`.
fn bundle(target: &str, digest: &str) -> Result<(), Failure> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let archive = match env::var_os(ARCHIVE_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => locate(target, &out).map_err(Failure::NotFound)?,
    };
    let bytes =
        fs::read(&archive).map_err(|error| Failure::NotFound(format!("{}: {error}", archive.display())))?;
    let mut found = String::new();
    for byte in Sha256::digest(&bytes) {
        let _ = write!(found, "{byte:02x}");
    }
    if found != digest {
        return Err(Failure::Wrong(format!("{} has SHA-256 {found}, expected {digest}", archive.display())));
    }
    println!("cargo::rerun-if-changed={}", archive.display());
    fs::write(out.join("postgres.tar.zst"), bytes)
        .map_err(|error| Failure::Wrong(format!("{}: {error}", out.display())))
}

/// Asks cargo where the payload crate lies. The crate's own build script does not say.
///
/// The question is put through a manifest that has this one dependency: for the real manifest cargo wants
/// every dependency of every kind on disk, and a fresh clone has no test dependencies after `cargo build`.
/// The working directory stays the package's, so that its `.cargo/config.toml` (vendored sources) counts.
fn locate(target: &str, out: &Path) -> Result<PathBuf, String> {
    let name = format!("pglite-rs-lib-{target}");
    let asking = out.join("locate");
    let manifest = asking.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"locate\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\n\n\
         [dependencies]\n{name} = \"={PAYLOAD_VERSION}\"\n\n[workspace]\n"
    );
    fs::create_dir_all(&asking)
        .and_then(|()| fs::write(&manifest, text))
        .and_then(|()| fs::write(asking.join("lib.rs"), ""))
        .map_err(|error| format!("{}: {error}", asking.display()))?;
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--offline", "--quiet", "--format-version", "1"])
        .arg("--manifest-path")
        .arg(&manifest)
        .current_dir(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into()))
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(words.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    manifest_path(&String::from_utf8_lossy(&output.stdout), &name)
        .and_then(|path| Some(Path::new(path).parent()?.join(PAYLOAD_FILE)))
        .ok_or_else(|| format!("cargo metadata does not mention {name}"))
}

/// The `manifest_path` of package `name` in the output of `cargo metadata`, which puts a package's version
/// right behind its name and its manifest's path later in the same object.
fn manifest_path<'a>(metadata: &'a str, name: &str) -> Option<&'a str> {
    let package = format!("{{\"name\":\"{name}\",\"version\":");
    let (_, rest) = metadata.split_once(package.as_str())?;
    let (_, rest) = rest.split_once("\"manifest_path\":\"")?;
    rest.split_once('"').map(|(path, _)| path)
}
