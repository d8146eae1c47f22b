//! Every guest, run by `coracle run`: output, errors and exit codes, exactly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{Ended, Root, SECRET, built, or_left_out};
use guests::Guest;
use rustix::process::Signal;

macro_rules! has_a_test {
    ($test:ident $guest:ident) => {
        const _: fn() = $test;
    };
}
guests::for_each_guest!(has_a_test);

/// Runs a guest; nothing where it was left out on this machine.
fn run(guest: Guest, args: &[&str]) -> Option<Ended> {
    with(&[], guest, args)
}

/// The same, with options of coracle's.
fn with(options: &[&str], guest: Guest, args: &[&str]) -> Option<Ended> {
    let path = built(guest)?;
    let path = path.to_str().unwrap();
    Some(Root::shared().run([options, &[path], args].concat()))
}

fn says(guest: Guest, args: &[&str], stdout: &str) {
    if let Some(ended) = run(guest, args) {
        ended.is(0, stdout, "");
    }
}

#[test]
fn rust_hello() {
    says(Guest::RustHello, &[], "hello from Rust\n");
}

#[test]
fn rust_hello_p2() {
    says(Guest::RustHelloP2, &[], "hello from Rust\n");
}

#[test]
fn go_hello() {
    says(Guest::GoHello, &[], "hello from Go\n");
}

#[test]
fn c_hello() {
    says(Guest::CHello, &[], "hello from C\n");
}

#[test]
fn wat_hello() {
    says(Guest::WatHello, &[], "hello from WAT\n");
}

/// What `inspect` prints in each language, with no more of the host than its name for the pod.
fn inspects(guest: Guest) {
    let Some(module) = built(guest) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("file"), "text\n").unwrap();
    for (name, target) in [
        ("absolute", "/data/file"),
        ("up", "../../../data/file"),
        ("host", "/host-only"),
        ("gone", "nothing"),
    ] {
        std::os::unix::fs::symlink(target, at(name)).unwrap();
    }
    let volume = format!("{}:/data", folder.path().display());
    let module = module.to_str().unwrap();
    let paths = [
        "/data",
        "/data/file",
        "/data/../data/./file",
        "/../../data/file",
        "/data/absolute",
        "/data/up",
        "/data/host",
        "/data/gone",
        "/tmp",
        "/etc",
    ];
    let mut args = vec!["-e", "GREETING=a \"b\" $HOME $(X)", "-v", &volume, module];
    args.extend(paths);
    let ended = Root::shared().run(&args);
    let env = ended.stdout.lines().nth(1).unwrap_or_default().to_owned();
    let stem = Path::new(module)
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .replace(".p2", "");
    let host = env
        .strip_prefix(r#"env: ["GREETING=a \"b\" $HOME $(X)", "HOSTNAME="#)
        .and_then(|rest| rest.split_once('"'))
        .unwrap_or_else(|| panic!("{ended:#?}"))
        .0;
    assert!(host.starts_with(&format!("{stem}-")), "{host}");
    let name = Path::new(module).file_name().unwrap().to_str().unwrap();
    let quoted = paths.map(|path| format!("\"{path}\"")).join(", ");
    let expected = format!(
        r#"args: ["{name}", {quoted}]
env: ["GREETING=a \"b\" $HOME $(X)", "HOSTNAME={host}", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
tty: false false false
cwd: /
/: ["data", "etc", "tmp"]
/data: ["absolute", "file", "gone", "host", "up"]
/data/file: "text\n"
/data/../data/./file: "text\n"
/../../data/file: "text\n"
/data/absolute: link to "/data/file", "text\n"
/data/up: link to "../../../data/file", "text\n"
/data/host: link to "/host-only", error ENOENT
/data/gone: link to "nothing", error ENOENT
/tmp: []
/etc: ["hostname", "hosts", "resolv.conf"]
"#
    );
    assert!(!ended.stdout.contains(SECRET.1), "{ended:#?}");
    ended.is(0, &expected, "");
}

#[test]
fn rust_inspect() {
    inspects(Guest::RustInspect);
}

#[test]
fn rust_inspect_p2() {
    inspects(Guest::RustInspectP2);
}

#[test]
fn go_inspect() {
    inspects(Guest::GoInspect);
}

#[test]
fn c_inspect() {
    inspects(Guest::CInspect);
}

fn exits(guest: Guest, codes: &[(u8, i32)]) {
    for (asked, code) in codes {
        let Some(ended) = run(guest, &[&asked.to_string()]) else {
            return;
        };
        ended.is(*code, &format!("exiting with {asked}\n"), "");
    }
}

/// What a process of Linux may end with, and what shells and runtimes give a meaning to.
const CODES: [(u8, i32); 11] = [
    (0, 0),
    (1, 1),
    (7, 7),
    (125, 125),
    (127, 127),
    (128, 128),
    (134, 134),
    (137, 137),
    (143, 143),
    (200, 200),
    (255, 255),
];

#[test]
fn rust_exit() {
    exits(Guest::RustExit, &CODES);
}

/// Rust's standard library for preview 2 says no more than whether it went well
/// (`wasi:cli/exit.exit` takes a result; `exit-with-code` is unstable).
#[test]
fn rust_exit_p2() {
    exits(Guest::RustExitP2, &[(0, 0), (1, 1), (7, 1), (255, 1)]);
}

/// By its first argument; that its own name chooses too is seen where it is `exec`uted.
#[test]
fn rust_tool() {
    let tool = |args: &[&str]| run(Guest::RustTool, args);
    let Some(echoed) = tool(&["echo", "a", "b c"]) else {
        return;
    };
    echoed.is(0, "a b c\n", "");
    let listed = tool(&["ls", "/etc"]).unwrap();
    assert_eq!(listed.code, Some(0), "{listed:#?}");
    assert!(
        listed.stdout.lines().any(|name| name == "hosts"),
        "{listed:#?}"
    );
    let text = tool(&["cat", "/etc/hostname"]).unwrap();
    assert_eq!((text.code, text.stdout.lines().count()), (Some(0), 1));
    let path = built(Guest::RustTool).unwrap();
    let env = Root::shared().run(["-e", "A=1", path.to_str().unwrap(), "env"]);
    assert_eq!(env.code, Some(0), "{env:#?}");
    assert!(env.stdout.lines().any(|line| line == "A=1"), "{env:#?}");
    tool(&["true"]).unwrap().is(0, "", "");
    tool(&["sleep", "1"]).unwrap().is(0, "", "");
    tool(&["false"]).unwrap().is(1, "", "");
    tool(&["exit", "42"]).unwrap().is(42, "", "");
    let missing = tool(&["cat", "/none"]).unwrap();
    assert_eq!(missing.code, Some(1), "{missing:#?}");
    assert!(missing.stderr.starts_with("tool: /none: "), "{missing:#?}");
    let unknown = tool(&["vi"]).unwrap();
    assert_eq!(unknown.code, Some(127), "{unknown:#?}");
    assert!(unknown.stderr.contains("\"vi\""), "{unknown:#?}");
}

#[test]
fn go_exit() {
    exits(Guest::GoExit, &CODES);
}

#[test]
fn c_exit() {
    exits(Guest::CExit, &CODES);
}

/// In the container's own root, and in a folder of this machine, where nothing is left.
fn works_with_files(guest: Guest, kinds: &[&str]) {
    let expected: String = kinds.iter().map(|kind| format!("{kind}: ok\n")).collect();
    says(guest, &[], &expected);
    let folder = tempfile::tempdir().unwrap();
    let volume = format!("{}:/data", folder.path().display());
    if let Some(ended) = with(&["-v", &volume], guest, &["/data"]) {
        ended.is(0, &expected, "");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

const RUST_FILES: [&str; 7] = [
    "create", "append", "seek", "rename", "thousand", "symlinks", "remove",
];

#[test]
fn rust_files() {
    works_with_files(Guest::RustFiles, &RUST_FILES);
}

#[test]
fn rust_files_p2() {
    works_with_files(Guest::RustFilesP2, &RUST_FILES);
}

#[test]
fn go_files() {
    let kinds = [
        "create", "append", "rename", "thousand", "symlinks", "remove",
    ];
    works_with_files(Guest::GoFiles, &kinds);
}

/// A trap is 134, its reason is said, and the functions are named from the innermost out.
fn traps(guest: Guest, how: &str, reason: &str, functions: &[&str]) {
    let Some(ended) = run(guest, &[how]) else {
        return;
    };
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(134), ""),
        "{ended:#?}"
    );
    let (said, trap) = ended
        .stderr
        .split_once("coracle: ")
        .unwrap_or_else(|| panic!("{ended:#?}"));
    assert!(
        said.starts_with(&format!("about to end by {how}\n")),
        "{ended:#?}"
    );
    assert!(
        trap.lines()
            .next()
            .unwrap()
            .ends_with(&format!("wasm trap: {reason}")),
        "{ended:#?}"
    );
    let mut rest = trap;
    for function in functions {
        rest = rest
            .split_once(function)
            .unwrap_or_else(|| panic!("{function}: {ended:#?}"))
            .1;
    }
}

const UNREACHABLE: &str = "wasm `unreachable` instruction executed";
const OUT_OF_BOUNDS: &str = "out of bounds memory access";

fn rust_traps(guest: Guest) {
    traps(
        guest,
        "panic",
        UNREACHABLE,
        &["!abort", "rust_panic", "trap::main"],
    );
    traps(
        guest,
        "unreachable",
        UNREACHABLE,
        &["trap::trap", "trap::main"],
    );
    // Rust's stack lies in the linear memory, whose end it passes.
    traps(
        guest,
        "overflow",
        OUT_OF_BOUNDS,
        &["trap::overflow", "trap::overflow"],
    );
    traps(
        guest,
        "memory",
        OUT_OF_BOUNDS,
        &["trap::out_of_bounds", "trap::main"],
    );
    let deep = [
        "trap::trap",
        "trap::innermost",
        "trap::middle",
        "trap::outermost",
        "trap::main",
    ];
    traps(guest, "deep", UNREACHABLE, &deep);
}

#[test]
fn rust_trap() {
    rust_traps(Guest::RustTrap);
    if let Some(ended) = run(Guest::RustTrap, &["panic"]) {
        assert!(
            ended.stderr.contains("a panic of the guest's own"),
            "{ended:#?}"
        );
    }
}

#[test]
fn rust_trap_p2() {
    rust_traps(Guest::RustTrapP2);
}

#[test]
fn c_trap() {
    traps(
        Guest::CTrap,
        "divide",
        "integer divide by zero",
        &["!divide", "!main"],
    );
    traps(
        Guest::CTrap,
        "deep",
        UNREACHABLE,
        &["!innermost", "!middle", "!outermost", "!main"],
    );
    traps(Guest::CTrap, "abort", UNREACHABLE, &["!abort", "!main"]);
}

#[test]
fn rust_hog() {
    let Some(ended) = with(&["--memory", "48Mi"], Guest::RustHog, &[]) else {
        return;
    };
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(137), "taking memory\n"),
        "{ended:#?}"
    );
    let said = "coracle: OOMKilled: out of memory: the limit is 48.0 MiB, ";
    assert!(
        ended.stderr.starts_with(said) && ended.stderr.lines().count() == 1,
        "{ended:#?}"
    );
    // Within the limit it is left alone.
    let within = with(&["--memory", "48Mi"], Guest::RustHog, &["30"]).unwrap();
    within.is(0, "taking memory\nholding 30 MiB\n", "");
}

/// Each of a person's ways to end a guest that does not end by itself.
fn stops(guest: Guest, first_line: &str) {
    let Some(module) = built(guest) else { return };
    let ways: [(&[Signal], i32); 3] = [
        (&[Signal::INT], 130),
        (&[Signal::TERM], 143),
        (&[Signal::INT, Signal::INT], 130),
    ];
    for (signals, code) in ways {
        let mut running = Root::shared().start([&module]);
        assert_eq!(running.line(), first_line);
        for signal in signals {
            running.signal(*signal);
        }
        running.end().is(code, &format!("{first_line}\n"), "");
    }
}

#[test]
fn rust_spinner() {
    stops(Guest::RustSpinner, "spinning");
}

#[test]
fn rust_spinner_p2() {
    stops(Guest::RustSpinnerP2, "spinning");
}

#[test]
fn rust_sleeper() {
    stops(Guest::RustSleeper, "sleeping");
    says(Guest::RustSleeper, &["50"], "sleeping\nawake\n");
}

#[test]
fn rust_sleeper_p2() {
    stops(Guest::RustSleeperP2, "sleeping");
    says(Guest::RustSleeperP2, &["50"], "sleeping\nawake\n");
}

#[test]
fn go_sleep() {
    stops(Guest::GoSleep, "sleeping");
    says(Guest::GoSleep, &["50ms"], "sleeping\nawake, early: false\n");
}

/// Every byte arrives, whatever the size of a write; a reader that goes away ends the guest.
fn floods(guest: Guest) {
    for (mib, kib) in [(8, 64), (2, 1), (4, 1024)] {
        let Some(ended) = run(guest, &[&mib.to_string(), &kib.to_string()]) else {
            return;
        };
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert_eq!(ended.stdout.len(), mib << 20);
        for (number, line) in ended.stdout.lines().enumerate() {
            assert_eq!(line.len(), 1023);
            assert!(
                line.starts_with(&format!("{number:010} .")),
                "line {number}: {line}"
            );
        }
    }
    // Far more than could be written before the reader has gone.
    let module = built(guest).unwrap();
    let mut running = Root::shared().start([module.to_str().unwrap(), "1000000"]);
    running.line();
    running.close_stdout();
    assert_eq!(
        running.end().code,
        Some(1),
        "a broken pipe is an error of the guest's"
    );
}

#[test]
fn rust_flooder() {
    floods(Guest::RustFlooder);
}

#[test]
fn rust_flooder_p2() {
    floods(Guest::RustFlooderP2);
}

#[test]
fn rust_echo() {
    let Some(module) = built(Guest::RustEcho) else {
        return;
    };
    let args = ["-i", module.to_str().unwrap()];
    let mut running = common::Running::spawn(Root::shared().command(args).stdin(Stdio::piped()));
    let mut expected = String::new();
    // A line comes back before the next is sent: nothing waits for a buffer to fill.
    for number in 0..100 {
        running.write(format!("line {number}\n").as_bytes());
        assert_eq!(running.line(), format!("line {number}"));
        expected.push_str(&format!("line {number}\n"));
    }
    running.close_stdin();
    running.end().is(0, &expected, "");
}

/// A pod's loopback is its own, and looks like one; what others see of it is in `network.rs`.
#[test]
fn rust_network_p2() {
    says(
        Guest::RustNetworkP2,
        &["self"],
        "listening at 127.0.0.1\nfrom 127.0.0.1 to 127.0.0.1\nthe same: true\n\
         again: Some(AddrInUse)\nitself: true\n",
    );
    says(Guest::RustNetworkP2, &["find", "localhost"], "127.0.0.1\n");
}

/// With listeners it is in `network.rs`.
#[test]
fn go_listen() {
    if let Some(ended) = run(Guest::GoListen, &[]) {
        ended.is(1, "no listeners\n", "");
    }
}

/// The answer to a request on a connection of its own, head and body.
fn asked(address: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn rust_server() {
    let Some(module) = built(Guest::RustServer) else {
        return;
    };
    let args = ["-e", "PORT=1", module.to_str().unwrap()];
    let mut running = Root::shared().start(args);
    let address = running.listens_at();
    assert_eq!(address.port(), 8080);
    let hello = asked(address, "/");
    assert!(hello.starts_with("HTTP/1.1 200 OK\r\n"), "{hello}");
    assert!(hello.contains("hello from Rust\n"), "{hello}");
    let env = asked(address, "/env");
    assert!(env.contains("PORT=8080\n"), "{env}");
    assert!(!env.contains(SECRET.1), "{env}");
    assert!(asked(address, "/log?seen").contains("logged\n"));
    assert_eq!(running.line(), "seen");
    running.signal(Signal::INT);
    running.end().is(0, "seen\n", "seen, as an error\n");
}

/// What it does in its world is in the tests of `runtime`.
#[test]
fn rust_concurrent() {
    let Some(ended) = with(&["--wasi", "p3"], Guest::RustConcurrent, &["exit", "9"]) else {
        return;
    };
    ended.is(9, "", "");
    let ended = with(
        &["-S", "p3", "-e", "A=b"],
        Guest::RustConcurrent,
        &["hello"],
    )
    .unwrap();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("argument hello\n"), "{ended:#?}");
    assert!(ended.stdout.contains("\nA=b\n"), "{ended:#?}");
    assert!(!ended.stdout.contains(SECRET.1), "{ended:#?}");
    // Without the flag it is refused, though its code is there.
    let refused = run(Guest::RustConcurrent, &["hello"]).unwrap();
    assert_eq!(refused.stdout, "");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("--wasi p3"), "{refused:#?}");
}

#[test]
fn rust_service() {
    let Some(module) = built(Guest::RustService) else {
        return;
    };
    let args = ["--wasi", "p3", module.to_str().unwrap()];
    let mut running = Root::shared().start(args);
    let address = running.listens_at();
    let hello = asked(address, "/");
    assert!(hello.starts_with("HTTP/1.1 200 OK\r\n"), "{hello}");
    assert!(hello.contains("hello from preview 3\n"), "{hello}");
    running.signal(Signal::INT);
    running.end().is(0, "", "");
}

#[test]
fn go_recursion() {
    says(Guest::GoRecursion, &[], "sum to 10000: 50005000\n");
    says(
        Guest::GoRecursion,
        &["100000"],
        "sum to 100000: 5000050000\n",
    );
}

/// A server of `wasi:http` in a pod, asked by a guest in another.
#[test]
fn rust_fetch_p2() {
    let (Some(server), Some(fetch)) = (built(Guest::RustServer), built(Guest::RustFetchP2)) else {
        return;
    };
    let fetch = fetch.to_str().unwrap();
    let root = Root::shared();
    let mut pod = root.start([server.to_str().unwrap()]);
    let at = pod.listens_at();
    let url = |path: &str| format!("http://{at}{path}");
    root.run([fetch, &url("/")])
        .is(0, "hello from Rust\n", "HTTP 200\n");
    root.run([fetch, &url("/nowhere")])
        .is(1, "there is nothing here\n", "HTTP 404\n");
    // Its standard input is the request's body.
    let text = "some text\n".repeat(6000);
    let mut command = root.command(["-i", fetch, &url("/echo"), "POST", "-"]);
    let mut asking = common::Running::spawn(command.stdin(Stdio::piped()));
    asking.write(text.as_bytes());
    asking.end().is(0, &text, "HTTP 200\n");
    let posted = root.run([fetch, &url("/echo"), "PUT", "a word"]);
    posted.is(0, "a word", "HTTP 200\n");
    pod.signal(Signal::TERM);
    pod.end();

    // Nobody is there any more.
    let refused = root.run([fetch, &url("/")]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.starts_with("fetch: "), "{refused:#?}");
    root.run([fetch, "gopher://x"]).is(
        1,
        "",
        "fetch: \"gopher://x\" begins with neither http:// nor https://\n",
    );
    root.run([fetch]).is(1, "", "fetch: name a URL\n");
}

/// CPython as a component: each request has an interpreter of its own, which may break.
#[test]
fn python_serve() {
    let (Some(server), Some(fetch)) = (built(Guest::PythonServe), built(Guest::RustFetchP2)) else {
        return;
    };
    let root = Root::shared();
    let mut pod = root.start([server.to_str().unwrap()]);
    let at = pod.listens_at();
    let ask = |path: &str, rest: &[&str]| {
        let url = format!("http://{at}{path}");
        root.run([&[fetch.to_str().unwrap(), &url], rest].concat())
    };
    ask("/hello?x=1", &[]).is(0, "cpython: GET /hello?x=1\n", "HTTP 200\n");
    let text = "some text\n".repeat(2000);
    let answer = format!("cpython: POST /\n{}", text.to_uppercase());
    ask("/", &["POST", &text]).is(0, &answer, "HTTP 200\n");
    let raised = ask("/raise", &[]);
    assert_eq!(raised.code, Some(1), "{raised:#?}");
    assert!(raised.stderr.ends_with("HTTP 500\n"), "{raised:#?}");
    ask("/again", &[]).is(0, "cpython: GET /again\n", "HTTP 200\n");
    pod.signal(Signal::TERM);
    let ended = pod.end();
    for said in ["asked for /hello?x=1\n", "ValueError: as it was asked to"] {
        assert!(ended.stderr.contains(said), "{said}: {ended:#?}");
    }
}

/// A script on an interpreter from a file, and both from the image that buildah made.
#[test]
fn python_main() {
    let Some(script) = built(Guest::PythonMain) else {
        return;
    };
    let Some(image) = or_left_out(guests::python_image()) else {
        return;
    };
    let root = Root::shared();
    let ended = root.run([format!("oci-archive:{}", image.display())]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:#?}"
    );
    let (version, list) = ended.stdout.trim_end().split_once('\n').unwrap();
    assert!(
        version.starts_with("Python 3.12") && version.ends_with(" on wasi"),
        "{ended:#?}"
    );
    let mut names: Vec<&str> = list.trim_matches(['[', ']']).split(", ").collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["'etc'", "'main.py'", "'python3.wasm'", "'tmp'"],
        "{ended:#?}"
    );

    let Some(cpython) = or_left_out(guests::cpython()) else {
        return;
    };
    let volume = format!("{}:/main.py:ro", script.display());
    let ended = root.run(["-v", &volume, cpython.to_str().unwrap(), "/main.py"]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:#?}"
    );
    assert!(
        ended.stdout.contains("'main.py'") && !ended.stdout.contains("python3.wasm"),
        "{ended:#?}"
    );
    let failing = root.run([cpython.to_str().unwrap(), "-c", "import sys; sys.exit(42)"]);
    failing.is(42, "", "");
}
