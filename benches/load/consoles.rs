//! What 100 open consoles cost the write path: the same load with and without them, in one run, in turns.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::support::{Scene, connected, empty, median, service};
use super::{committed, rounds, seconds, sending};

const CONSOLES: usize = 100;

/// The stream that an open first page of the console follows.
const STREAM: &str = "/live/events";

pub(super) async fn measure(scene: &Scene) {
    let Scene { database, url, dir } = scene;
    let running = service(url, &dir.join("data")).await;
    // Connections are made and statements prepared.
    super::load(running.callback_addr, 16, sending(Duration::from_millis(500))).await;
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..2 * rounds() {
        let mut rate = [0.0; 2];
        // Each order as often as the other: a table that grows and a disk that fills favour the first.
        let order = if round % 2 == 0 { [false, true] } else { [true, false] };
        for is_open in order {
            empty(database).await;
            let consoles = if is_open { open(running.api_addr).await } else { JoinSet::new() };
            rate[usize::from(is_open)] =
                committed(database, running.callback_addr, 64, sending(seconds())).await;
            drop(consoles);
        }
        without.push(rate[0]);
        with.push(rate[1]);
        ratios.push(rate[1] / rate[0]);
    }
    running.stop().await;
    println!("| 64 connections | callbacks/s |\n|---|---|");
    println!("| no console | {:.0} |\n| {CONSOLES} open consoles | {:.0} |", median(without), median(with));
    println!("\nwith ÷ without, each round: {ratios:.2?}; median {:.3}\n", median(ratios.clone()));
}

/// Open consoles, each of which reads what it is sent.
async fn open(api: SocketAddr) -> JoinSet<()> {
    let mut consoles = JoinSet::new();
    for _ in 0..CONSOLES {
        let mut stream = connected(api).await;
        let request =
            format!("GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let count = stream.read(&mut buffer).await.unwrap();
        let head = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        consoles.spawn(async move { while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {} });
    }
    consoles
}
