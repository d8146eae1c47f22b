//! What goes in and out of a guest.

use std::io::Read;

use super::{Host, command, until};
use crate::spec::StartError;

#[tokio::test]
async fn output_goes_to_the_log_and_to_the_hosts_descriptor() {
    let host = Host::new();
    let (mut spec, mut fds) = host.guest(&command(
        r#"(func (export "_start") (call $ready) (call $write (i32.const 2) (i32.const 80) (i32.const 7)))"#,
    ));
    let (mut read, write) = std::io::pipe().unwrap();
    fds.stdout = Some(write.into());
    spec.tty = false;
    let exited = host.run((spec, fds)).await;
    assert_eq!(host.log(&exited.id), ["stdout F ready", "stderr F broken"]);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ready\n");
}

#[tokio::test]
async fn the_log_is_optional_and_so_is_everything_else() {
    let host = Host::new();
    let (mut spec, mut fds) = host.guest(&command(
        r#"(func (export "_start") (call $ready) (call $exit (call $read)))"#,
    ));
    (spec.log, fds.log_dir) = (None, None);
    assert_eq!(host.run((spec, fds)).await.code, 0);
}

#[tokio::test]
async fn a_reader_that_is_gone_is_an_error_of_the_guests_write_not_of_the_host() {
    let host = Host::new();
    let (spec, mut fds) = host.guest(&command(
        r#"(func (export "_start")
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 6))
            (call $exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    ));
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    fds.stdout = Some(write.into());
    const EPIPE: u8 = 64;
    assert_eq!(host.run((spec, fds)).await.code, EPIPE);
}

#[tokio::test]
async fn a_guest_waits_for_who_reads_its_output_and_can_be_stopped_meanwhile() {
    let host = Host::new();
    let (mut spec, mut fds) = host.guest(&command(
        r#"(func (export "_start") (loop $more (call $ready) (br $more)))"#,
    ));
    (spec.log, fds.log_dir) = (None, None);
    let (read, write) = std::io::pipe().unwrap();
    fds.stdout = Some(write.into());
    let id = host.start((spec, fds)).await;
    // The pipe is full when its bytes no longer grow in number.
    let filled = || rustix::io::ioctl_fionread(&read).unwrap();
    until("full", || filled() >= 60_000).await;
    host.local
        .stop(&id, std::time::Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(host.end(&id).await.code, 143);
}

#[tokio::test]
async fn a_spec_that_contradicts_itself_is_refused_by_its_field() {
    let host = Host::new();
    let wat = command(r#"(func (export "_start"))"#);
    let field = async |change: fn(&mut crate::GuestSpec, &mut crate::GuestFds)| {
        let (mut spec, mut fds) = host.guest(&wat);
        change(&mut spec, &mut fds);
        match host.refused((spec, fds)).await {
            StartError::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        field(|spec, _| spec.limits.blocking_ops = 0).await,
        "limits.blockingOps"
    );
    assert_eq!(
        field(|spec, _| spec.limits.cpu_milli = Some(0)).await,
        "limits.cpuMilli"
    );
    assert_eq!(field(|_, fds| fds.log_dir = None).await, "log");
    assert_eq!(
        field(|_, fds| fds.mounts = vec![fds.root.try_clone().unwrap()]).await,
        "mounts"
    );
    assert_eq!(
        field(|spec, _| spec.args = vec!["a\0b".to_owned()]).await,
        "argument"
    );
    assert!(host.local.list().is_empty());
}
