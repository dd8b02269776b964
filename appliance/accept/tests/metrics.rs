//! What Prometheus scrapes: over HTTP on an address that was asked for, and always on the control socket.

use cairn_accept::{Daemon, Served, free_port};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What came back until the connection ended.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> String {
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    // A connection that is cut off is an answer as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n").into_bytes()
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    stream
}

fn value(text: &str, sample: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().expect("a number")
}

fn printed(daemon: &Daemon) -> String {
    let finished = daemon.command(&["counters", "--prometheus"]).expect("runs");
    finished.succeeded("counters --prometheus").unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_scraper_reads_what_is_counted_and_cannot_crowd_the_daemon() {
    let test = "metrics";
    let port = free_port().expect("a port");
    let started = Served::start_with(test, |setup| {
        setup.shards = 2;
        setup.arguments = vec!["--metrics".into(), format!("127.0.0.1:{port}")];
    });
    let Some(mut served) = started else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    for _ in 0..20 {
        client.getattr(&root).expect("getattr");
    }
    let daemon = served.daemon(test).expect("ours");

    let answer = exchange(connect(port), &get("/metrics"));
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(text.contains("# TYPE cairn_nfs_getattr_calls counter\n") && text.ends_with("# EOF\n"));
    let calls = |text: &str| -> u64 {
        let of = |shard| format!("cairn_nfs_getattr_calls_total{{shard=\"{shard}\"}}");
        (0..2).map(|shard| value(text, &of(shard))).sum()
    };
    assert!(calls(text) >= 20);
    assert!(value(text, "cairn_memory_resident_bytes") > 1 << 20);

    let socket = || UnixStream::connect(daemon.socket()).expect("connected");
    let on_socket = exchange(socket(), &get("/metrics"));
    assert!(calls(&on_socket) >= calls(text));
    assert!(calls(&printed(daemon)) >= calls(text));

    assert!(exchange(connect(port), &get("/")).starts_with("HTTP/1.1 404 "));
    let post = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert!(exchange(connect(port), post).starts_with("HTTP/1.1 405 "));
    assert!(
        exchange(connect(port), b"\x16\x03\x01\x02\x00\x01\r\n\r\n").starts_with("HTTP/1.1 400 ")
    );
    // Nothing of the calls is on the address.
    let call = get("/cairn.control.v1.Control/Status");
    assert!(exchange(connect(port), &call).starts_with("HTTP/1.1 404 "));

    // Whoever asks nothing has a place for ten seconds, and there are sixteen.
    let idle: Vec<TcpStream> = (0..40).map(|_| connect(port)).collect();
    for stream in idle {
        assert_eq!(exchange(stream, b""), "", "cut off without a word");
    }
    assert!(calls(&exchange(connect(port), &get("/metrics"))) >= calls(text));
    client.getattr(&root).expect("served all the while");
}

#[test]
fn an_address_that_is_taken_is_refused_before_the_pool_is_touched() {
    let test = "metrics-taken";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound").to_string();
    let dir = tempfile::tempdir().expect("a folder");
    let pool = dir.path().join("pool");
    let mut up =
        cairn_accept::cairn(&["up", "--nfs", "127.0.0.1:0", "--metrics", &at]).expect("built");
    up.arg("--dir").arg(&pool);
    let finished = cairn_accept::finish(up).expect("runs");
    assert_eq!(finished.status.code(), Some(1), "{test}: {}", finished.stderr);
    assert!(
        finished.stderr.contains(&format!("cannot listen on {at} for metrics")),
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.contains("EADDRINUSE"), "{}", finished.stderr);
    assert!(!pool.join("pool").exists());
}
