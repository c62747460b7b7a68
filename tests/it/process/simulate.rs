//! The `simulate` command: what its result lines say about answers, and about what was compared.

use crate::support::process::{Ended, Place, run};
use crate::support::{App, TOKEN};

/// 20 callbacks to an address, verified against the app, signed with a token.
async fn simulate(app: &App, callback_url: &str, token: &str, more: &[&str]) -> Ended {
    let (to, api) =
        (format!("--callback-url={callback_url}"), format!("--api-url={}", app.service.api_url("")));
    let mut args = vec!["simulate", "--callbacks=20", "--groups=3", "--verify", &to, &api];
    args.extend(more);
    let place = Place::new();
    let mut command = place.command_on(&app.database.url, &args);
    command.env("CALLBACK_TOKEN", token);
    run(command).await
}

#[tokio::test]
async fn the_address_of_the_console_set_up_is_one_that_simulate_takes() {
    let app = App::start().await;
    let to = app.service.running.callback_addr;
    for (url, rows) in [
        (format!("http://{to}/callback"), false),
        (format!("http://{to}"), false),
        (format!("http://{to}/"), true),
    ] {
        let ended = simulate(&app, &url, TOKEN, if rows { &["--rows"] } else { &[] }).await;
        assert_eq!(ended.code, Some(0), "{url}: {ended:?}");
        assert!(
            ended.stdout.contains("20 OK, 0 parked, 0 unavailable, 0 refused, 0 not reached, 0 none in 2 s")
        );
        assert!(ended.stdout.contains("0 differences: the mirror is what was sent"), "{ended:?}");
        assert_eq!(ended.stdout.contains(" rows compared"), rows, "{ended:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn refused_callbacks_are_counted_by_status_and_compare_nothing() {
    let app = App::start().await;
    let to = app.service.running.callback_addr;
    for (url, token, refused) in [
        (format!("http://{to}"), "another-secret-2", "20 refused (20 with 403)"),
        (format!("http://{to}/elsewhere"), TOKEN, "20 refused (20 with 404)"),
    ] {
        let ended = simulate(&app, &url, token, &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stdout.contains(refused), "{ended:?}");
        assert!(ended.stdout.contains("nothing was compared: no group had"), "{ended:?}");
        assert!(!ended.stdout.contains("0 differences"), "{ended:?}");
        assert!(!ended.stdout.contains("answer times"), "there are none: {ended:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_listener_that_is_not_there_is_not_reached() {
    let app = App::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let ended = simulate(&app, &url, TOKEN, &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains(" 20 not reached, 0 none in 2 s"), "{ended:?}");
    let ended = simulate(&app, "127.0.0.1:8080", TOKEN, &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--callback-url is \"127.0.0.1:8080\"; it should read like http://"));
    app.stop().await;
}

#[tokio::test]
async fn one_of_several_apps_is_simulated_and_verified_and_the_others_are_left_alone() {
    use crate::support::apps::{FIRST, SECOND, in_environment, settings_of};
    let database = crate::support::postgres::TestDatabase::create().await;
    let settings = settings_of(&[FIRST, SECOND], &database.url);
    let service = crate::support::Service::start(&settings).await.unwrap();
    let place = Place::new();
    let with = |app: &[&str]| {
        let to = format!("--callback-url=http://{}", service.running.callback_addr);
        let api = format!("--api-url={}", service.api_url(""));
        let args =
            [&["simulate", "--callbacks=40", "--groups=3", "--verify", "--rows", &to, &api], app].concat();
        let mut command = place.command_on(&database.url, &args);
        in_environment(&mut command, &settings);
        command
    };
    let ended = run(with(&["--app", SECOND])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("0 differences: the mirror is what was sent"), "{ended:?}");
    let apps: Vec<i64> = sqlx::query_scalar("SELECT DISTINCT sdk_app_id FROM ledger")
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(apps, [1_400_000_002]);
    let ended = run(with(&["--app", "7"])).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--app is 7, which is not one of SDK_APP_ID"), "{ended:?}");
    service.stop().await;
}

/// `simulate --demo` against an app.
async fn demo(app: &App, more: &[&str]) -> Ended {
    let to = format!("--callback-url=http://{}", app.service.running.callback_addr);
    let api = format!("--api-url={}", app.service.api_url(""));
    let args = [&["simulate", "--demo", &to, &api], more].concat();
    run(Place::new().command_on(&app.database.url, &args)).await
}

#[tokio::test]
async fn the_demo_world_is_what_was_sent_and_a_second_run_adds_nothing() {
    let app = App::start().await;
    let entries = async || -> i64 {
        let mut conn = app.connect().await;
        sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap()
    };
    let first = demo(&app, &["--verify"]).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains("2 parked, 0 unavailable, 0 refused"), "{first:?}");
    assert!(first.stdout.contains("12 groups, "), "{first:?}");
    assert!(first.stdout.contains("0 differences: the mirror is what was sent"), "{first:?}");
    assert!(first.stdout.contains("/users/lena.fischer"), "{first:?}");
    let of_first = entries().await;
    assert!(of_first > 250, "{of_first}");
    let second = demo(&app, &[]).await;
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(entries().await, of_first);
    app.stop().await;
}

#[tokio::test]
async fn a_demo_world_of_an_earlier_day_is_found_and_sent_again_as_it_was() {
    use group_mirror::model::Millis;
    use group_mirror::simulate::demo_begin;
    let app = App::start().await;
    let weeks_ago = (i64::try_from(crate::support::unix_now()).unwrap() - 40 * 86_400) * 1000;
    crate::support::demo::send(&app.service, demo_begin(Millis::new(weeks_ago))).await;
    let entries = async || -> i64 {
        let mut conn = app.connect().await;
        sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap()
    };
    let before = entries().await;
    let ended = demo(&app, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(entries().await, before);
    app.stop().await;
}

#[tokio::test]
async fn the_scenes_of_the_demo_world_are_in_the_mirror() {
    let demo = crate::support::demo::Demo::with(|_| {}).await;
    let service = &demo.app.service;
    let removed = service
        .read("/v1/groups/%40TGS%232NIGHTOWLS/history?command=Group.CallbackAfterMemberExit&limit=6")
        .await;
    for (entry, user) in removed["items"].as_array().unwrap().iter().zip([
        "lena.fischer",
        "sven_k",
        "joao.silva",
        "priya-n",
        "aiko.m",
        "tomasz_w",
    ]) {
        assert_eq!((&entry["operator"], &entry["users"][0]), (&"boris-2".into(), &user.into()), "{entry}");
    }
    let poem = service.read("/v1/groups/%40TGS%232WINTERPOEM").await;
    assert_eq!(poem["status"], "destroyed");
    assert_eq!(service.read("/v1/groups/%40TGS%232CRIMECLUB").await["owner"], "emma.b");
    assert_eq!(service.read("/v1/groups/%40TGS%232OLDLIBRARY").await["status"], "unseen");
    let topics = service.read("/v1/groups/%40TGS%23_OWLSREADCN/topics").await;
    assert_eq!(topics["items"].as_array().unwrap().len(), 2, "{topics}");
    let stats = service.read("/v1/stats").await;
    assert_eq!((&stats["ledger"]["parked"], &stats["ledger"]["partial"]), (&2.into(), &1.into()), "{stats}");
    demo.app.stop().await;
}
