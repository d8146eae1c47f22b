//! How guests end, and what is refused before it begins.

use super::{Host, command, compiled};
use crate::spec::{ExitKind, StartError};

#[tokio::test]
async fn a_return_is_zero_and_every_code_is_exact() {
    let host = Host::new();
    let returned = host.run_text(&command(r#"(func (export "_start"))"#)).await;
    assert_eq!(
        (returned.code, returned.kind, returned.message.as_str()),
        (0, ExitKind::Exited, "")
    );
    assert!(returned.started_at <= returned.finished_at);
    for code in [0, 1, 125, 126, 134, 137, 143, 255] {
        let exited = host
            .run_text(&command(&format!(
                r#"(func (export "_start") (call $exit (i32.const {code})))"#
            )))
            .await;
        assert_eq!(
            (i32::from(exited.code), exited.kind),
            (code, ExitKind::Exited)
        );
    }
}

#[tokio::test]
async fn a_trap_is_134_with_its_reason_and_the_functions_names_in_the_log() {
    let host = Host::new();
    let guest = host.guest(&command(
        r#"(func $innermost unreachable)
           (func $middle (call $innermost))
           (func (export "_start") (call $ready) (call $middle))"#,
    ));
    let exited = host.run(guest).await;
    assert_eq!((exited.code, exited.kind), (134, ExitKind::Trapped));
    assert_eq!(
        exited.message,
        "wasm trap: wasm `unreachable` instruction executed"
    );
    let log = host.log(&exited.id);
    assert_eq!(log[0], "stdout F ready");
    assert_eq!(
        log[1],
        "stderr F coracle: default/pod/main: wasm trap: wasm `unreachable` instruction executed"
    );
    let named = |line: &String, name: &str| line.starts_with("stderr F ") && line.ends_with(name);
    assert!(log.iter().any(|line| named(line, " innermost")), "{log:#?}");
    assert!(log.iter().any(|line| named(line, " middle")), "{log:#?}");
}

#[tokio::test]
async fn a_rust_name_is_demangled() {
    let host = Host::new();
    let guest = command(
        r#"(func $_ZN4core9panicking9panic_fmt17h0123456789abcdefE unreachable)
           (func (export "_start") (call $_ZN4core9panicking9panic_fmt17h0123456789abcdefE))"#,
    );
    let exited = host.run_text(&guest).await;
    let log = host.log(&exited.id);
    assert!(
        log.iter()
            .any(|line| line.contains(" core::panicking::panic_fmt")),
        "{log:#?}"
    );
}

#[tokio::test]
async fn each_fault_is_called_by_its_name() {
    let host = Host::new();
    for (body, message) in [
        (
            "(drop (i32.load (i32.const -4)))",
            "wasm trap: out of bounds memory access",
        ),
        (
            "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
            "wasm trap: integer divide by zero",
        ),
        (
            "(call_indirect (i32.const 0))",
            "wasm trap: uninitialized element",
        ),
        (
            "(call_indirect (i32.const 9))",
            "wasm trap: undefined element: out of bounds table access",
        ),
        ("(call $_start)", "wasm trap: call stack exhausted"),
    ] {
        let exited = host
            .run_text(&command(&format!(
                r#"(func $_start (export "_start") {body})"#
            )))
            .await;
        assert_eq!((exited.code, exited.message.as_str()), (134, message));
    }
}

#[tokio::test]
async fn a_trap_of_the_start_function_ends_the_guest_not_the_start() {
    let host = Host::new();
    let exited = host
        .run_text(&command(
            r#"(func $first unreachable) (start $first) (func (export "_start"))"#,
        ))
        .await;
    assert_eq!((exited.code, exited.kind), (134, ExitKind::Trapped));
}

#[tokio::test]
async fn another_function_is_run_when_it_is_named_after_its_initialiser() {
    let host = Host::new();
    let wat = command(
        r#"(global $ready (mut i32) (i32.const 1))
           (func (export "_initialize") (global.set $ready (i32.const 7)))
           (func (export "job") (call $exit (global.get $ready)))"#,
    );
    let (mut spec, fds) = host.guest(&wat);
    spec.export = Some("job".to_owned());
    assert_eq!(host.run((spec, fds)).await.code, 7);
}

#[tokio::test]
async fn without_a_function_to_run_there_is_no_start() {
    let host = Host::new();
    let wat = command(
        r#"(func (export "add") (param i32 i32) (result i32) (i32.const 0)) (global (export "g") i32 (i32.const 0))"#,
    );
    assert_eq!(
        host.refused(host.guest(&wat)).await.to_string(),
        "the module has no function \"_start\" to run: it exports add: \
         build it as a command, or name a function after a # in the entrypoint"
    );
    for (export, problem) in [
        (
            "add",
            "it takes 2 values and returns 1, and only a function that takes and returns none can be run",
        ),
        ("g", "what it exports by that name is no function"),
    ] {
        let (mut spec, fds) = host.guest(&wat);
        spec.export = Some(export.to_owned());
        let error = host.refused((spec, fds)).await;
        assert_eq!(
            error,
            StartError::Entry {
                export: export.to_owned(),
                problem: problem.to_owned()
            }
        );
        assert!(!error.retryable());
    }
    assert!(host.local.list().is_empty());
}

#[tokio::test]
async fn an_import_that_no_world_has_is_named() {
    let host = Host::new();
    let error = host
        .refused(host.guest(r#"(module (import "env" "foo" (func)) (func (export "_start")))"#))
        .await;
    assert_eq!(
        error.to_string(),
        "the module imports env.foo, which no world has"
    );
    let wrong = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32))) (func (export "_start")))"#;
    let error = host.refused(host.guest(wrong)).await;
    assert!(
        matches!(&error, StartError::Import { import, .. } if import == "wasi_snapshot_preview1.fd_write"),
        "{error}"
    );
}

#[tokio::test]
async fn a_shared_memory_is_refused() {
    let host = Host::new();
    let exited = host
        .run_text(r#"(module (memory 1 1 shared) (func (export "_start")))"#)
        .await;
    assert_eq!((exited.code, exited.kind), (134, ExitKind::Trapped));
    assert!(exited.message.contains("shared"), "{}", exited.message);
}

#[tokio::test]
async fn what_is_no_code_is_refused_and_may_be_compiled_again() {
    let host = Host::new();
    for content in [&b""[..], b"\0asm\x01\0\0\0", b"\x7fELF"] {
        let (spec, mut fds) = host.guest("(module)");
        let path = host.path("damaged");
        std::fs::write(&path, content).unwrap();
        fds.code = std::fs::File::open(&path).unwrap().into();
        let error = host.refused((spec, fds)).await;
        assert!(
            matches!(error, StartError::Code { .. }) && error.retryable(),
            "{error}"
        );
    }
}

#[tokio::test]
async fn guests_of_one_file_share_its_code() {
    let host = Host::new();
    let code = compiled(&command(
        r#"(func (export "_start") (call $ready) (call $sleep))"#,
    ));
    let mut guests = Vec::new();
    for _ in 0..3 {
        let (spec, mut fds) = host.guest("(module)");
        fds.code = code.try_clone().unwrap();
        guests.push(host.start((spec, fds)).await);
    }
    let number =
        std::os::unix::fs::MetadataExt::ino(&std::fs::File::from(code).metadata().unwrap());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let text = |line: &&str| {
        line.contains("r-xp") && line.split_whitespace().nth(4) == Some(&number.to_string())
    };
    assert_eq!(maps.lines().filter(text).count(), 1);
}

/// A component whose `run` is of a body that returns 0 for success and 1 for failure.
pub(super) fn component(body: &str) -> String {
    format!(
        r#"(component
            (core module $main (memory (export "memory") 1) (func $inner (export "inner") (result i32) {body}))
            (core instance $main (instantiate $main))
            (func $run (result (result)) (canon lift (core func $main "inner")))
            (instance $interface (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $interface)))"#
    )
}

#[tokio::test]
async fn a_component_is_run_the_same_way() {
    let host = Host::new();
    for (body, code, kind) in [
        ("(i32.const 0)", 0, ExitKind::Exited),
        ("(i32.const 1)", 1, ExitKind::Exited),
        ("unreachable", 134, ExitKind::Trapped),
    ] {
        let exited = host.run_text(&component(body)).await;
        assert_eq!(
            (exited.code, exited.kind),
            (code, kind),
            "{}",
            exited.message
        );
    }
    let id = host
        .start(host.guest(&component("(loop $again (br $again)) unreachable")))
        .await;
    host.local
        .stop(&id, std::time::Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(host.end(&id).await.code, 143);
    let (mut spec, fds) = host.guest(&component("(memory.grow (i32.const 1000))"));
    spec.limits.memory_bytes = Some(1 << 20);
    assert_eq!(host.run((spec, fds)).await.kind, ExitKind::OomKilled);
}

#[tokio::test]
async fn a_component_that_can_not_run_says_why() {
    let host = Host::new();
    let error = host.refused(host.guest("(component)")).await;
    assert_eq!(
        error.to_string(),
        "the module has no function \"wasi:cli/run\" to run: it exports no function: build it for the world wasi:cli/command 0.2"
    );
    let wants = r#"(component (import "acme:shop/till@1.0.0" (instance (export "open" (func)))))"#;
    let error = host.refused(host.guest(wants)).await;
    assert!(
        matches!(&error, StartError::Import { import, .. } if import == "acme:shop/till@1.0.0"),
        "{error}"
    );
}
