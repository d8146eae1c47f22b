//! Frames as no honest peer sends them, and descriptors over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::descriptors::MAX_DESCRIPTORS;
use super::frame::{Decoder, FrameError, MAX_BODY, encode};
use super::message::{Hello, Layout};
use super::{blocking, descriptors};
use crate::spec::GuestFds;

fn header(length: u32, fds: u32) -> Vec<u8> {
    let mut header = length.to_le_bytes().to_vec();
    header.extend_from_slice(&fds.to_le_bytes());
    header
}

fn pipe() -> (std::io::PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, writer.into())
}

/// Whether every writer of a pipe is closed.
fn is_closed(mut reader: std::io::PipeReader) -> bool {
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    matches!(reader.read(&mut [0]), Ok(0))
}

proptest! {
    #[test]
    fn frames_come_out_whole_however_they_are_cut(
        texts in prop::collection::vec(".{0,40}", 1..8),
        cuts in prop::collection::vec(1_usize..50, 1..40),
    ) {
        let stream: Vec<u8> =
            texts.iter().flat_map(|text| encode(&json!({ "text": text }), 0).unwrap()).collect();
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        let mut left = &stream[..];
        for cut in cuts.iter().cycle() {
            let (piece, rest) = left.split_at((*cut).min(left.len()));
            decoder.push(piece, vec![], false).unwrap();
            while let Some(frame) = decoder.next().unwrap() {
                seen.push(frame.message::<Value>().unwrap()["text"].as_str().unwrap().to_owned());
            }
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        prop_assert_eq!(seen, texts);
        decoder.end().unwrap();
    }

    #[test]
    fn garbage_is_an_error_or_a_wait_and_never_more(bytes: Vec<u8>) {
        let mut decoder = Decoder::default();
        decoder.push(&bytes, vec![], false).unwrap();
        while let Ok(Some(frame)) = decoder.next() {
            let _ = frame.message::<Hello>();
        }
    }
}

#[test]
fn a_hostile_length_is_refused_before_a_byte_of_it_is_held() {
    for length in [MAX_BODY as u32 + 1, u32::MAX] {
        let mut decoder = Decoder::default();
        decoder.push(&header(length, 0), vec![], false).unwrap();
        assert!(matches!(decoder.next(), Err(FrameError::Length { .. })));
    }
    let mut decoder = Decoder::default();
    let count = MAX_DESCRIPTORS as u32 + 1;
    decoder.push(&header(0, count), vec![], false).unwrap();
    assert!(matches!(
        decoder.next(),
        Err(FrameError::Descriptors { .. })
    ));
}

#[test]
fn what_is_too_large_is_not_sent() {
    let text = "x".repeat(MAX_BODY);
    assert!(matches!(encode(&text, 0), Err(FrameError::Length { .. })));
    let most = MAX_DESCRIPTORS + 1;
    assert!(matches!(
        encode(&(), most),
        Err(FrameError::Descriptors { .. })
    ));
}

#[test]
fn a_stream_that_ends_inside_a_frame_says_so() {
    let whole = encode(&json!({"a": 1}), 0).unwrap();
    for cut in 1..whole.len() {
        let mut decoder = Decoder::default();
        decoder.push(&whole[..cut], vec![], false).unwrap();
        assert!(decoder.next().unwrap().is_none());
        let end = decoder.end();
        assert!(matches!(end, Err(FrameError::Cut { received }) if received == cut));
    }
}

#[test]
fn descriptors_that_nobody_announced_are_closed_with_the_stream() {
    let (reader, writer) = pipe();
    let mut decoder = Decoder::default();
    let body = encode(&json!({}), 0).unwrap();
    decoder.push(&body, vec![writer], false).unwrap();
    assert!(decoder.next().unwrap().is_some());
    assert!(matches!(decoder.next(), Err(FrameError::Stray)));
    drop(decoder);
    assert!(is_closed(reader));

    let mut decoder = Decoder::default();
    let pushed: Result<(), _> = (0..8).try_for_each(|_| decoder.push(b"", vec![pipe().1], false));
    assert!(matches!(pushed, Err(FrameError::Stray)));
}

#[test]
fn descriptors_that_the_kernel_dropped_spoil_their_own_frame_alone() {
    let mut decoder = Decoder::default();
    let first = encode(&json!(1), 2).unwrap();
    let second = encode(&json!(2), 1).unwrap();
    decoder.push(&first, vec![pipe().1], true).unwrap();
    decoder.push(&second, vec![pipe().1], false).unwrap();
    assert!(!decoder.next().unwrap().unwrap().complete());
    assert!(decoder.next().unwrap().unwrap().complete());
}

#[test]
fn descriptors_keep_to_their_frames_over_a_socket() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let pipes: Vec<_> = (0..5).map(|_| pipe()).collect();
    for (number, (_, writer)) in pipes.iter().enumerate() {
        // Each second frame has none.
        blocking::send(&ours, &json!([number]), &[]).unwrap();
        blocking::send(&ours, &json!([number]), &[writer.as_fd()]).unwrap();
    }
    let mut decoder = Decoder::default();
    let mut buffer = [0; 7];
    let mut frames = Vec::new();
    while frames.len() < 10 {
        let received = descriptors::receive(&theirs, &mut buffer).unwrap();
        let bytes = &buffer[..received.bytes];
        decoder.push(bytes, received.fds, received.lost).unwrap();
        while let Some(frame) = decoder.next().unwrap() {
            frames.push(frame);
        }
    }
    let readers = pipes.into_iter().map(|(reader, _)| reader);
    for ((number, reader), pair) in readers.enumerate().zip(frames.chunks_mut(2)) {
        assert!(pair[0].fds.is_empty());
        let mut writer = std::fs::File::from(pair[1].fds.pop().unwrap());
        let flags = rustix::io::fcntl_getfd(&writer).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        writer.write_all(&[number as u8]).unwrap();
        let mut byte = [0];
        (&reader).read_exact(&mut byte).unwrap();
        assert_eq!(byte, [number as u8]);
    }
}

#[test]
fn as_many_descriptors_as_are_allowed_go_and_no_more() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (_reader, writer) = pipe();
    let many = vec![writer.as_fd(); MAX_DESCRIPTORS];
    blocking::send(&ours, &json!(null), &many).unwrap();
    let (_, fds) = blocking::receive::<Value>(&theirs).unwrap().unwrap();
    assert_eq!(fds.len(), MAX_DESCRIPTORS);
    let too_many = vec![writer.as_fd(); MAX_DESCRIPTORS + 1];
    assert!(descriptors::send(&ours, b"x", &too_many).is_err());
}

#[test]
fn a_peer_that_is_gone_is_an_error_and_no_signal() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(
        blocking::send(&ours, &json!(1), &[]),
        Err(FrameError::Io(_))
    ));
    assert!(blocking::receive::<Value>(&ours).unwrap().is_none());
}

#[test]
fn a_layout_takes_back_what_it_laid_out_and_nothing_else() {
    let make = || GuestFds {
        code: pipe().1,
        root: pipe().1,
        mounts: vec![pipe().1, pipe().1],
        log_dir: None,
        stdin: Some(pipe().1),
        stdout: None,
        stderr: Some(pipe().1),
        listeners: vec![pipe().1],
    };
    let (layout, fds) = Layout::of(make());
    assert_eq!(fds.len(), 7);
    let taken = layout.take(fds).unwrap();
    assert_eq!((taken.mounts.len(), taken.listeners.len()), (2, 1));
    assert!(taken.log_dir.is_none() && taken.stdin.is_some() && taken.stdout.is_none());
    for count in [0, 1, 6, 8] {
        let fds = (0..count).map(|_| pipe().1).collect();
        assert!(layout.take(fds).is_none(), "{count}");
    }
}

#[test]
fn versions_that_overlap_agree_on_the_newest_of_both() {
    let hello = |oldest, newest| Hello {
        oldest,
        newest,
        ..Hello::ours()
    };
    assert_eq!(hello(1, 3).agree(&hello(2, 5)), Some(3));
    assert_eq!(hello(1, 1).agree(&hello(1, 1)), Some(1));
    assert_eq!(hello(1, 2).agree(&hello(3, 4)), None);
    assert_eq!(hello(3, 4).agree(&hello(1, 2)), None);
}

#[test]
fn a_greeting_of_the_future_is_understood() {
    let hello: Hello = serde_json::from_value(json!({
        "oldest": 1, "newest": 9, "binary": "9.0.0", "pid": 7, "mood": "good",
    }))
    .unwrap();
    assert_eq!(Hello::ours().agree(&hello), Some(1));
}
