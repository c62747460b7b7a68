//! What is kept of answered callbacks (`KEEP_ANSWERED_SECS`) and its files: damaged, not readable, older than their time, and
//! records that have no mark.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use group_mirror::callback::Received;
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::spool::{KEPT_UNREAD, KeptAnswers, MARK_LANES, Spool, SpoolPlace};

use super::failover::{entered, fill, serve, verified};
use crate::support::cluster::{Cluster, copy};
use crate::support::eventually;
use crate::support::process::Place;

const NO_MARKS: [u64; MARK_LANES] = [0; MARK_LANES];

/// A spool and what is kept beside it, without a database.
struct Files {
    spool: Spool,
    kept: KeptAnswers,
    threads: [JoinHandle<()>; 2],
}

impl Files {
    fn open(dir: &Path) -> Self {
        let apps = vec![SdkAppId::parse("1").unwrap()];
        let place = SpoolPlace { dir: dir.to_owned(), max_bytes: 1 << 24, apps, keep_answered_secs: 600 };
        let (spool, writing) = Spool::open(&place).unwrap();
        let spooling = std::thread::spawn(writing);
        let (kept, writing) = spool.kept_answers(&place).unwrap().unwrap();
        Self { spool, kept, threads: [spooling, std::thread::spawn(writing)] }
    }

    /// Keeps so many callbacks of a lane, whose mark the database has or not.
    fn keep(&self, lane: usize, number: usize, is_raised: bool) {
        let app = SdkAppId::parse("1").unwrap();
        let next = self.kept.next_mark(lane);
        let batch: Vec<Received> = (0..number)
            .map(|number| Received::bare(app, Millis::new(1), format!("{next:?} {number}").into()))
            .collect();
        self.kept.keep(next, batch.iter(), is_raised);
    }

    /// As a look does that finds the database without any mark.
    async fn send_again(&self) -> u64 {
        self.kept.send_again(self.kept.confirmed().1, NO_MARKS).await.unwrap()
    }

    /// The marks are written as batches come: nothing is added at the end, as where the process is killed.
    async fn close(self) {
        self.kept.close().await;
        assert!(self.spool.close().await);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn names(dir: &Path, begin: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(begin)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_damaged_costs_no_other_and_its_file_is_set_aside_with_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path());
    files.keep(0, 5, true);
    assert!(eventually(async || files.kept.bytes() > 0).await);
    let file = File::options().write(true).open(dir.path().join("kept-0000000000")).unwrap();
    file.write_all_at(b"?", files.kept.bytes() / 2).unwrap();
    assert_eq!(files.send_again().await, 4);
    assert!(eventually(async || files.spool.gaps().len() == 1).await);
    let gap = files.spool.gaps().remove(0);
    assert_eq!((&*gap.cause, gap.callbacks), (KEPT_UNREAD, 0));
    assert!(gap.first_ms > 0 && gap.first_ms <= gap.last_ms, "{gap:?}");
    // It is kept for a person, and no look sends it once more.
    assert_eq!(names(dir.path(), "kept-0000000000.unread-").len(), 1);
    assert_eq!((files.send_again().await, files.spool.gaps().len()), (0, 1));
    assert_eq!((files.kept.bytes(), files.spool.status().depth), (0, 4));
    files.close().await;
    // The next start reads it once, and what it finds is a repeat.
    let files = Files::open(dir.path());
    let is_salvaged =
        async || names(dir.path(), "kept-0").iter().all(|path| path.extension().unwrap() == "salvaged");
    assert!(eventually(is_salvaged).await, "{:?}", names(dir.path(), "kept-"));
    assert_eq!(files.spool.status().depth, 8);
    files.close().await;
}

/// Should the database lose commits while all is sent, no mark would show what of these it has lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_without_a_mark_is_sent_once_more_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path());
    files.keep(0, 3, true);
    assert!(!files.kept.has_unmarked());
    // The lane has found the database behind; another one has not.
    files.keep(0, 1, false);
    files.keep(1, 1, true);
    assert!(files.kept.has_unmarked());
    assert_eq!(files.send_again().await, 5);
    assert!(!files.kept.has_unmarked());
    // A transaction that was under way when the marks were lowered.
    files.keep(0, 2, false);
    files.keep(0, 1, true);
    assert!(files.kept.has_unmarked());
    files.close().await;
    let files = Files::open(dir.path());
    assert!(files.kept.has_unmarked());
    assert_eq!(files.send_again().await, 3);
    assert!(!files.kept.has_unmarked());
    files.keep(1, 1, true);
    files.close().await;
    let files = Files::open(dir.path());
    assert!(!files.kept.has_unmarked(), "all of it was sent");
    files.close().await;
}

/// The time for which a service is stopped does not count.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_an_earlier_process_expires_once_a_look_has_found_the_database_complete_and_not_before()
 {
    let dir = tempfile::tempdir().unwrap();
    for is_complete in [false, true] {
        let files = Files::open(dir.path());
        files.keep(0, 3, true);
        assert!(eventually(async || files.kept.bytes() > 0).await);
        files.close().await;
        let old = SystemTime::now() - Duration::from_hours(1);
        for path in names(dir.path(), "kept-") {
            File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
        }
        let files = Files::open(dir.path());
        if is_complete {
            files.kept.found_complete(files.kept.confirmed().2);
        }
        // What is asked for is done in its order.
        (0..3).for_each(|_| files.kept.tidy());
        assert_eq!(files.send_again().await, if is_complete { 0 } else { 3 });
        files.close().await;
    }
}

/// Puts the files of a server back as they were saved.
fn put_back(server: &mut Cluster, saved: &Path) {
    server.stop();
    std::fs::remove_dir_all(server.files()).unwrap();
    copy(saved, &server.files());
    server.start();
}

/// One that anybody may write stands for any that cannot be read. The second loss comes while it is tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_readable_is_set_aside_after_some_tries_and_hides_no_second_loss() {
    let (mut server, place) = (Cluster::create().await, Place::new());
    let mut service = serve(&place, &server.url(), 600).await;
    fill(&service, "kept", 5).await;
    let saved = server.home.join("saved");
    server.stop();
    copy(&server.files(), &saved);
    server.start();
    fill(&service, "lost", 5).await;
    let data = place.path().join("data");
    std::fs::set_permissions(data.join("kept-0000000000"), Permissions::from_mode(0o666)).unwrap();
    put_back(&mut server, &saved);
    service.says("answered callbacks that the database may lack are in").await;
    fill(&service, "unmarked", 5).await;
    put_back(&mut server, &saved);
    service.says("not all of what was kept of this period in").await;
    assert!(eventually(async || entered(&server).await == 10).await, "{}", service.log());
    let [aside] = &names(&data, "kept-0000000000.unread-")[..] else { panic!("{}", service.log()) };
    std::fs::set_permissions(aside, Permissions::from_mode(0o600)).unwrap();
    service.ends_well_on("TERM").await;
    service = serve(&place, &server.url(), 600).await;
    assert!(eventually(async || entered(&server).await == 15).await, "{}", service.log());
    service.says("a file of kept records is salvaged").await;
    service.ends_well_on("TERM").await;
    verified(&place, &server.url()).await;
}
