//! Sizes and pointers that no honest guest has.

use super::{BUFFER, CREAT, Guest, READ, WRITE};

/// All of the address space: 4 GiB less one.
const ALL: i64 = 0xffff_ffff;

#[tokio::test]
async fn buffers_past_the_memory_are_traps() {
    let mut guest = Guest::new().await;
    std::fs::write(guest.path("file"), vec![1; 300_000]).unwrap();
    let fd = guest.open("file", 0, READ | WRITE).await.unwrap();
    guest.iovec(u32::MAX);
    assert!(guest.try_call("fd_read", &[fd, 8, 1, 0]).await.is_err());
    assert!(guest.try_call("fd_write", &[fd, 8, 1, 0]).await.is_err());
    assert!(guest.try_call("random_get", &[0, ALL]).await.is_err());
    assert!(
        guest
            .try_call("args_sizes_get", &[ALL - 3, 0])
            .await
            .is_err()
    );
    assert!(
        guest
            .try_call("poll_oneoff", &[ALL - 7, 0, 1, 0])
            .await
            .is_err()
    );
    assert!(
        guest
            .try_call("path_create_directory", &[3, ALL - 7, 100])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn counts_past_reason_are_refused() {
    let mut guest = Guest::new().await;
    let fd = guest.open("file", CREAT, READ | WRITE).await.unwrap();
    for name in ["fd_read", "fd_write"] {
        assert_eq!(guest.call(name, &[fd, 8, ALL, 0]).await, "Inval");
        assert_eq!(guest.call(name, &[fd, 8, 1025, 0]).await, "Inval");
    }
    // Two buffers within the memory whose sum no u32 holds.
    let memory = guest
        .instance
        .get_memory(&mut guest.store, "memory")
        .unwrap();
    memory.grow(&mut guest.store, 40_000).unwrap();
    for at in [8, 16] {
        guest.put(at, &BUFFER.to_le_bytes());
        guest.put(at + 4, &0x9000_0000_u32.to_le_bytes());
    }
    assert_eq!(guest.call("fd_write", &[fd, 8, 2, 0]).await, "Inval");
    assert_eq!(guest.call("poll_oneoff", &[0, 0, ALL, 0]).await, "Inval");
    assert_eq!(guest.call("poll_oneoff", &[0, 0, 0, 0]).await, "Inval");
    assert_eq!(
        guest.call("path_create_directory", &[3, 0, ALL]).await,
        "Nametoolong"
    );
    assert_eq!(
        guest.call("path_create_directory", &[3, 0, 4096]).await,
        "Nametoolong"
    );
    guest.put(BUFFER, b"\xff\xfe");
    assert_eq!(
        guest
            .call("path_create_directory", &[3, i64::from(BUFFER), 2])
            .await,
        "Ilseq"
    );
    guest.put(BUFFER, b"a\0");
    assert_eq!(
        guest
            .call("path_create_directory", &[3, i64::from(BUFFER), 2])
            .await,
        "Inval"
    );
}

#[tokio::test]
async fn large_transfers_go_in_pieces_and_whole() {
    let mut guest = Guest::new().await;
    let fd = guest.open("file", CREAT, READ | WRITE).await.unwrap();
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(guest.write(fd, &bytes).await, Ok(700_000));
    guest.ok("fd_seek", &[fd, 0, 0, 0]).await;
    guest.put(BUFFER, &vec![0; 700_000]);
    assert_eq!(guest.read(fd, 900_000).await.unwrap(), bytes);
    // Scattered: 1,000 buffers of 700 bytes, from the top down.
    for n in 0..1000_u32 {
        guest.put(8 + 8 * n, &(100_000 + 700 * (999 - n)).to_le_bytes());
        guest.put(12 + 8 * n, &700_u32.to_le_bytes());
    }
    guest.ok("fd_seek", &[fd, 0, 0, 0]).await;
    guest.ok("fd_read", &[fd, 8, 1000, 0]).await;
    assert_eq!(guest.u32(0), 700_000);
    assert_eq!(guest.take(100_000 + 700 * 999, 700), bytes[..700]);
    assert_eq!(guest.take(100_000, 700), bytes[699_300..]);
    guest.ok("fd_seek", &[fd, 0, 0, 0]).await;
    guest.ok("fd_write", &[fd, 8, 1000, 0]).await;
    assert_eq!(std::fs::read(guest.path("file")).unwrap(), bytes);
}

#[tokio::test]
async fn randomness_fills_all_that_was_asked() {
    let mut guest = Guest::new().await;
    guest.ok("random_get", &[0, 1_000_000]).await;
    let bytes = guest.take(0, 1_000_000);
    assert!(
        bytes
            .chunks(1000)
            .all(|piece| piece.iter().any(|byte| *byte != 0))
    );
    guest.ok("random_get", &[0, 0]).await;
}

#[tokio::test]
async fn a_killed_guest_is_idle_only_when_its_work_has_returned() {
    let blocking = crate::Blocking::new(1);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, begin) = tokio::sync::oneshot::channel();
    let work = {
        let blocking = std::sync::Arc::clone(&blocking);
        tokio::spawn(async move {
            blocking
                .run(move || {
                    begun.send(()).unwrap();
                    wait.recv().unwrap();
                })
                .await
        })
    };
    begin.await.unwrap();
    work.abort();
    assert!(work.await.unwrap_err().is_cancelled());
    assert_eq!(blocking.in_flight(), 1);
    // The bound holds although nobody waits for the result any more.
    let next = std::sync::Arc::clone(&blocking);
    let next = tokio::spawn(async move { next.run(|| 5).await });
    go.send(()).unwrap();
    assert_eq!(next.await.unwrap(), Ok(5));
    blocking.idle().await;
    assert_eq!(blocking.in_flight(), 0);
}
