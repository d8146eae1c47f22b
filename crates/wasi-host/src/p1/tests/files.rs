//! Files, folders and descriptors.

use super::{BUFFER, CREAT, DIRECTORY, Guest, READ, WRITE};

#[tokio::test]
async fn files_are_written_and_read_back() {
    let mut guest = Guest::new().await;
    let fd = guest.open("file", CREAT, READ | WRITE).await.unwrap();
    assert_eq!(fd, 4);
    assert_eq!(guest.write(fd, b"hello world").await, Ok(11));
    guest.ok("fd_tell", &[fd, 0]).await;
    assert_eq!(guest.u64(0), 11);
    guest.ok("fd_seek", &[fd, -5, 2, 0]).await;
    assert_eq!(guest.u64(0), 6);
    assert_eq!(guest.read(fd, 100).await.unwrap(), b"world");
    assert_eq!(guest.read(fd, 100).await.unwrap(), b"");
    guest.iovec(3);
    guest.ok("fd_pread", &[fd, 8, 1, 2, 0]).await;
    assert_eq!(guest.take(BUFFER, 3), b"llo");
    assert_eq!(guest.call("fd_seek", &[fd, -1, 0, 0]).await, "Inval");
    guest.ok("fd_filestat_set_size", &[fd, 5]).await;
    guest.ok("fd_filestat_get", &[fd, 64]).await;
    assert_eq!((guest.take(80, 1)[0], guest.u64(96)), (4, 5));
    guest.ok("fd_allocate", &[fd, 0, 10]).await;
    guest.ok("fd_sync", &[fd]).await;
    guest.ok("fd_datasync", &[fd]).await;
    guest.ok("fd_advise", &[fd, 0, 0, 1]).await;
    // Append, by fcntl.
    guest.ok("fd_fdstat_set_flags", &[fd, 1]).await;
    guest.ok("fd_seek", &[fd, 0, 0, 0]).await;
    guest.write(fd, b"!").await.unwrap();
    guest.ok("fd_close", &[fd]).await;
    assert_eq!(guest.call("fd_close", &[fd]).await, "Badf");
    assert_eq!(
        std::fs::read(guest.path("file")).unwrap(),
        b"hello\0\0\0\0\0!"
    );
}

#[tokio::test]
async fn what_was_opened_for_one_is_not_for_the_other() {
    let mut guest = Guest::new().await;
    let fd = guest.open("file", CREAT, WRITE).await.unwrap();
    assert_eq!(guest.read(fd, 1).await, Err("Badf".into()));
    let fd = guest.open("file", 0, READ).await.unwrap();
    assert_eq!(guest.write(fd, b"x").await, Err("Badf".into()));
    assert_eq!(guest.read(3, 1).await, Err("Isdir".into()));
    assert_eq!(guest.open("missing", 0, READ).await, Err("Noent".into()));
    assert_eq!(guest.open(".", 0, READ | WRITE).await, Err("Isdir".into()));
    assert!(guest.open(".", DIRECTORY, READ | WRITE).await.is_ok());
}

#[tokio::test]
async fn descriptors_are_the_lowest_and_bounded() {
    let mut guest = Guest::with(|world| world.open_files = 6).await;
    assert_eq!(guest.open("a", CREAT, WRITE).await, Ok(4));
    assert_eq!(guest.open("b", CREAT, WRITE).await, Ok(5));
    assert_eq!(guest.open("c", CREAT, WRITE).await, Err("Mfile".into()));
    assert!(!guest.path("c").exists());
    guest.ok("fd_close", &[4]).await;
    assert_eq!(guest.open("c", CREAT, WRITE).await, Ok(4));
    // 5 takes the place of 4, and 5 is free.
    guest.ok("fd_renumber", &[5, 4]).await;
    guest.write(4, b"to b").await.unwrap();
    assert_eq!(std::fs::read(guest.path("b")).unwrap(), b"to b");
    assert_eq!(guest.call("fd_tell", &[5, 0]).await, "Badf");
    assert_eq!(guest.call("fd_renumber", &[4, 5]).await, "Badf");
    guest.ok("fd_renumber", &[4, 4]).await;
}

#[tokio::test]
async fn the_root_is_the_one_preopen() {
    let mut guest = Guest::new().await;
    guest.ok("fd_prestat_get", &[3, 0]).await;
    assert_eq!(guest.u32(4), 1);
    guest.ok("fd_prestat_dir_name", &[3, 0, 1]).await;
    assert_eq!(guest.take(0, 1), b"/");
    assert_eq!(
        guest.call("fd_prestat_dir_name", &[3, 0, 0]).await,
        "Nametoolong"
    );
    assert_eq!(guest.call("fd_prestat_get", &[4, 0]).await, "Badf");
    assert_eq!(guest.call("fd_prestat_get", &[0, 0]).await, "Badf");
}

#[tokio::test]
async fn names_are_worked_on() {
    let mut guest = Guest::new().await;
    let at = i64::from(BUFFER);
    guest.put(BUFFER, b"dir/target-of-link");
    guest.ok("path_create_directory", &[3, at, 3]).await;
    assert_eq!(
        guest.call("path_create_directory", &[3, at, 3]).await,
        "Exist"
    );
    // A link "dir/t" to "dir/target".
    guest.ok("path_symlink", &[at, 10, 3, at, 5]).await;
    guest.ok("path_readlink", &[3, at, 5, 64, 4, 0]).await;
    assert_eq!((guest.u32(0), guest.take(64, 4)), (4, b"dir/".to_vec()));
    guest.ok("path_filestat_get", &[3, 0, at, 5, 64]).await;
    assert_eq!(guest.take(80, 1)[0], 7);
    assert_eq!(
        guest.call("path_filestat_get", &[3, 1, at, 5, 64]).await,
        "Noent"
    );
    guest
        .ok("path_filestat_set_times", &[3, 0, at, 5, 5, 6, 0b101])
        .await;
    assert_eq!(
        guest
            .call("path_filestat_set_times", &[3, 0, at, 5, 5, 6, 0b11])
            .await,
        "Inval"
    );
    guest.ok("path_link", &[3, 0, at, 5, 3, at, 6]).await;
    guest.ok("path_rename", &[3, at, 6, 3, at, 7]).await;
    assert_eq!(
        guest.call("path_remove_directory", &[3, at, 3]).await,
        "Notempty"
    );
    guest.ok("path_unlink_file", &[3, at, 5]).await;
    guest.ok("path_unlink_file", &[3, at, 7]).await;
    guest.ok("path_remove_directory", &[3, at, 3]).await;
    assert_eq!(guest.call("path_unlink_file", &[0, at, 3]).await, "Notdir");
}

#[tokio::test]
async fn listings_fill_the_buffer_and_go_on_by_cookie() {
    let mut guest = Guest::new().await;
    for name in ["one", "two", "three"] {
        std::fs::write(guest.path(name), "").unwrap();
    }
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        // Room for one entry and a piece of the next.
        guest
            .ok("fd_readdir", &[3, i64::from(BUFFER), 40, cookie, 0])
            .await;
        let used = guest.u32(0);
        if used < 24 {
            break;
        }
        cookie = guest.u64(BUFFER) as i64;
        let length = guest.u32(BUFFER + 16) as usize;
        names.push(String::from_utf8(guest.take(BUFFER + 24, length)).unwrap());
    }
    names.sort();
    assert_eq!(names, [".", "..", "one", "three", "two"]);
    guest
        .ok("fd_readdir", &[3, i64::from(BUFFER), 0, 0, 0])
        .await;
    assert_eq!(guest.u32(0), 0);
    assert_eq!(guest.call("fd_readdir", &[1, 0, 40, 0, 0]).await, "Notdir");
}
