//! `/metrics` as a scrape sees it: `promtool` accepts it, process and build are in it, and reads are counted by route.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::durability::isolation::{metric, take};
use crate::durability::spool::create;
use crate::process::lifecycle::skipped;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, APP, eventually, unix_now};

/// The value of one series; none where it is not there.
fn series(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}

async fn scrape(service: &Process, prefix: &str) -> String {
    let answer = service.get_as(API_TOKEN, &format!("{prefix}/metrics")).await;
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_no_fault_in_what_a_service_shows() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut command = place.command_on(&database.url, &[]);
    // With these as well, so that as many metrics as possible are there.
    command.env("RELAY_URL", "http://127.0.0.1:9/").env("KEEP_ANSWERED_SECS", "60");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let service = Process::start(command).ready().await;
    take(&service, &create("g")).await;
    service.get_as(API_TOKEN, "/v1/groups").await;
    service.get_as(API_TOKEN, "/v1/stats").await;
    assert!(eventually(async || metric(&service, "group_mirror_relay_failed_total").await > 0.5).await);
    let text = scrape(&service, "").await;
    let described = |name: &&str| text.contains(&format!("# HELP {name} "));
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(described(&name), "{name} has no help text");
    }
    service.ends_well_on("TERM").await;
    let mut promtool = Command::new("promtool");
    let pipes = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let Ok(mut promtool) = pipes.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
        return skipped("promtool is not installed");
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && said.iter().all(String::is_empty), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn build_process_and_the_last_callback_are_shown() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let last = format!("group_mirror_last_callback_timestamp_seconds{{app=\"{APP}\"}}");
    let shown = async || series(&scrape(&service, "").await, &last);
    assert!(eventually(async || shown().await.is_some_and(f64::is_nan)).await, "none is known yet");
    let now = || f64::from(u32::try_from(unix_now()).unwrap());
    let before = now();
    take(&service, &create("g")).await;
    let is_now = async || shown().await.is_some_and(|at| at >= before && at <= now() + 1.0);
    assert!(eventually(is_now).await, "{:?}", shown().await);
    let text = scrape(&service, "").await;
    let build = text.lines().find(|line| line.starts_with("group_mirror_build_info{")).unwrap();
    for label in [concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), "commit=\"", "schema=\""] {
        assert!(build.contains(label) && build.ends_with(" 1"), "{build}");
    }
    assert_eq!(series(&text, "group_mirror_database_fits"), Some(1.0));
    assert_eq!(series(&text, "group_mirror_spool_failing"), Some(0.0));
    assert_eq!(series(&text, &format!("group_mirror_set_aside_current{{app=\"{APP}\"}}")), Some(0.0));
    if cfg!(target_os = "linux") {
        let resident = series(&text, "process_resident_memory_bytes").unwrap();
        assert!((1e6..1e10).contains(&resident), "{resident}");
        let started = series(&text, "process_start_time_seconds").unwrap();
        assert!((started - before).abs() < 300.0, "{started}");
        assert!(series(&text, "process_open_fds").unwrap() > 5.0);
        for name in ["process_cpu_seconds_total", "process_max_fds", "process_threads"] {
            assert!(series(&text, name).is_some(), "{name}: {text}");
        }
    }
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_counted_by_the_template_of_their_path_and_status_below_a_prefix_as_well() {
    for prefix in ["", "/mirror"] {
        let (place, database) = (Place::new(), TestDatabase::create().await);
        let mut command = place.command_on(&database.url, &[]);
        command.env("API_PREFIX", prefix);
        let mut service = Process::start(command);
        service.says("the schema fits").await;
        let read = |path: &str, status: u16| {
            format!("group_mirror_reads_total{{path=\"{path}\",status=\"{status}\"}}")
        };
        let text = scrape(&service, prefix).await;
        for (path, status) in [("/v1/groups", 200), ("/v1/groups/{group_id}", 503), ("/v1/stats", 500)] {
            assert_eq!(series(&text, &read(path, status)), Some(0.0), "{path} {status} before the first");
        }
        for path in ["/v1/groups", "/v1/groups/a%2Fb", "/v1/groups/b", "/v1/nothing", "/v1/groups?x=1"] {
            service.get_as(API_TOKEN, &format!("{prefix}{path}")).await;
        }
        service.get_as("wrong", &format!("{prefix}/v1/groups")).await;
        let text = scrape(&service, prefix).await;
        for (path, status, count) in [
            ("/v1/groups", 200, 1.0),
            ("/v1/groups", 400, 1.0),
            ("/v1/groups", 401, 1.0),
            ("/v1/groups/{group_id}", 404, 2.0),
            ("other", 404, 1.0),
        ] {
            assert_eq!(series(&text, &read(path, status)), Some(count), "{path} {status}: {text}");
        }
        assert!(!text.contains("a%2Fb"), "no id is a label");
        service.ends_well_on("TERM").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_for_which_there_are_partitions_falls_from_scrape_to_scrape() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let shown = async || series(&scrape(&service, "").await, "group_mirror_partitions_ahead_seconds");
    assert!(eventually(async || shown().await.is_some()).await);
    let first = shown().await.unwrap();
    assert!(eventually(async || shown().await.is_some_and(|ahead| ahead < first)).await);
    let (day, last) = (24.0 * 60.0 * 60.0, shown().await.unwrap());
    assert!(first > 28.0 * day && first - last < day / 2.0, "{first} {last}");
    service.ends_well_on("TERM").await;
}
