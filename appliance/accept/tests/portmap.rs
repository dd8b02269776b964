//! `--portmap`: NFS and MOUNT in the list of the machine's own rpcbind.
//!
//! rpcbind is started in namespaces of its own (network, mounts, processes), so that neither a running
//! one nor the machine's port 111 is touched. That takes root.

use cairn_accept::{binary, run_within, skip, skip_without};
use std::process::Command;
use std::time::Duration;

/// Runs a script of the shell in new namespaces, where `cairn` is `$CAIRN` and `$DIR` is empty; what
/// it printed.
fn in_namespaces(script: &str) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = "ip link set lo up; mount -t tmpfs none /run; cd \"$DIR\"; ";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]);
    command.arg(format!("{setup}{script}"));
    command.env("CAIRN", binary().expect("asked before")).env("DIR", dir.path());
    let ended = run_within(command, Duration::from_secs(90)).expect("it ends");
    (ended.status.success(), format!("{}{}", ended.stdout, ended.stderr))
}

fn cannot(test: &str) -> bool {
    if binary().is_none() {
        skip(test, "the cairn binary");
        return true;
    }
    if skip_without(test, "unshare", "util-linux")
        || skip_without(test, "ip", "iproute2")
        || skip_without(test, "rpcbind", "rpcbind")
        || skip_without(test, "rpcinfo", "rpcbind")
    {
        return true;
    }
    let mut probe = Command::new("unshare");
    probe.args(["--net", "--mount", "--pid", "--fork", "true"]);
    let may = run_within(probe, Duration::from_secs(20)).is_ok_and(|ended| ended.status.success());
    if !may {
        skip(test, "root");
    }
    !may
}

const UP: &str = "\"$CAIRN\" up --size 256M --shards 1 --portmap --nfs 127.0.0.1:2049 --nfs '[::1]:2050' \
                  >log 2>&1 & up=$!; \
                  for n in $(seq 600); do grep -q '^ready' log && break; sleep 0.1; done; cat log; ";

#[test]
fn what_is_served_is_registered_and_taken_back() {
    if cannot("portmap") {
        return;
    }
    let script = format!(
        "rpcbind -w; {UP} echo SERVING; rpcinfo -p; rpcinfo; kill $up; wait $up; echo STOPPED; rpcinfo"
    );
    let (good, said) = in_namespaces(&script);
    assert!(good, "{said}");
    let (serving, stopped) = said
        .split_once("SERVING")
        .and_then(|(_, rest)| rest.split_once("STOPPED"))
        .unwrap_or_else(|| panic!("{said}"));
    let words = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let serving = words(serving);
    for program in [100_003, 100_005] {
        for (begin, what) in [
            (format!("{program} 3 tcp 2049"), "version 2 of rpcbind's protocol"),
            (format!("{program} 3 tcp 127.0.0.1.8.1"), "IPv4"),
            (format!("{program} 3 tcp6 ::1.8.2"), "IPv6"),
        ] {
            let found = serving.iter().any(|line| line.starts_with(&begin));
            assert!(found, "{what}: no {begin:?} in {serving:#?}");
        }
        let left = words(stopped).into_iter().find(|line| line.starts_with(&program.to_string()));
        assert_eq!(left, None, "taken back at the end");
    }
}

#[test]
fn a_program_that_another_server_has_registered_is_not_taken_away() {
    if cannot("portmap_taken") {
        return;
    }
    // Two daemons, two pools, one rpcbind.
    let script = format!(
        "rpcbind -w; {UP} echo SECOND; \
         \"$CAIRN\" up --dir other --size 256M --shards 1 --portmap --nfs 127.0.0.1:2060 2>&1 || echo ENDED $?; \
         rpcinfo -p"
    );
    let (good, said) = in_namespaces(&script);
    assert!(good, "{said}");
    let second = said.split_once("SECOND").map_or("", |(_, rest)| rest);
    assert!(second.contains("ENDED 1"), "{said}");
    assert!(second.contains("(port 111) refuses to register program 100003 version 3"), "{second}");
    assert!(second.contains(" 2049 "), "the first one's entry is still there: {second}");
}

#[test]
fn without_rpcbind_the_daemon_says_so_and_names_port_111() {
    if cannot("portmap_without_rpcbind") {
        return;
    }
    let script = "\"$CAIRN\" up --size 256M --shards 1 --portmap 2>&1 && exit 1; echo ENDED $?";
    let (good, said) = in_namespaces(script);
    assert!(good && said.contains("ENDED 1"), "{said}");
    assert!(said.contains("cannot register with rpcbind") && said.contains("port 111"), "{said}");
}
