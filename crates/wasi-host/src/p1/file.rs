//! Reading, writing and what else is done to what is open.

use super::memory::Buffers;
use super::table::{Descriptor, OpenFile};
use super::types::{Advice, Errno, Fd, Filedelta, Filesize, Fstflags, Size, Timestamp, Whence};
use super::{Ctx, Result, sock};
use crate::fs::{self, File, SeekFrom, SetTime, Time};
use std::sync::Arc;
use wiggle::GuestMemory;

/// Where in a file to read or write.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Position,
    Offset(u64),
}

impl At {
    /// The place `count` bytes on.
    fn after(self, count: usize) -> Result<Self> {
        match self {
            Self::Position => Ok(self),
            Self::Offset(offset) => {
                let count = u64::try_from(count).map_err(|_| Errno::Overflow)?;
                Ok(Self::Offset(
                    offset.checked_add(count).ok_or(Errno::Overflow)?,
                ))
            }
        }
    }

    /// A stream has no offsets.
    fn check_stream(self) -> Result<()> {
        match self {
            Self::Position => Ok(()),
            Self::Offset(_) => Err(Errno::Spipe.into()),
        }
    }
}

impl Ctx {
    pub(super) async fn read(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        mut buffers: Buffers,
        at: At,
    ) -> Result<Size> {
        let bytes = match self.table.get(fd)? {
            Descriptor::File(OpenFile { file, .. }) => {
                let file = file.clone();
                return self.read_file(memory, file, buffers, at).await;
            }
            Descriptor::Stdin { stdin, stream } => {
                at.check_stream()?;
                match stream.nonblocking {
                    true => stdin.try_read(&self.blocking, buffers.piece()).await?,
                    false => stdin.read(&self.blocking, buffers.piece()).await?,
                }
            }
            Descriptor::Socket {
                socket,
                nonblocking,
                ..
            } => {
                at.check_stream()?;
                sock::receive(socket, buffers.piece(), false, *nonblocking).await?
            }
            Descriptor::Dir { .. } => return Err(Errno::Isdir.into()),
            Descriptor::Listener { .. } => return Err(Errno::Notconn.into()),
            Descriptor::Out { .. } => return Err(Errno::Badf.into()),
        };
        buffers.fill(memory, &bytes)?;
        size(bytes.len())
    }

    async fn read_file(
        &self,
        memory: &mut GuestMemory<'_>,
        file: File,
        mut buffers: Buffers,
        mut at: At,
    ) -> Result<Size> {
        if !file.is_readable() {
            return Err(Errno::Badf.into());
        }
        let mut done = 0;
        loop {
            let piece = buffers.piece();
            let file = file.clone();
            let read = self.blocking.run(move || match at {
                At::Position => file.read(piece),
                At::Offset(offset) => file.read_at(piece, offset),
            });
            match read.await? {
                Ok(bytes) => {
                    buffers.fill(memory, &bytes)?;
                    done += bytes.len();
                    at = at.after(bytes.len())?;
                    if bytes.len() < piece || buffers.piece() == 0 {
                        return size(done);
                    }
                }
                // What was read before the error counts first, as in POSIX.
                Err(_) if done > 0 => return size(done),
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub(super) async fn write(
        &mut self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        mut buffers: Buffers,
        at: At,
    ) -> Result<Size> {
        match self.table.get(fd)? {
            Descriptor::File(OpenFile { file, .. }) => {
                let file = file.clone();
                self.write_file(memory, file, buffers, at).await
            }
            Descriptor::Out { sink, stream } => {
                at.check_stream()?;
                let mut done = 0;
                while buffers.piece() > 0 {
                    if stream.nonblocking && !sink.is_ready_now() {
                        return if done > 0 {
                            size(done)
                        } else {
                            Err(Errno::Again.into())
                        };
                    }
                    match sink.write(&buffers.peek(memory)?).await {
                        // Nothing taken of something is no progress: it must not spin.
                        Ok(0) => {
                            return if done > 0 {
                                size(done)
                            } else {
                                Err(Errno::Io.into())
                            };
                        }
                        Ok(count) => {
                            buffers.skip(count)?;
                            done += count;
                        }
                        Err(_) if done > 0 => break,
                        Err(e) => return Err(e.into()),
                    }
                }
                size(done)
            }
            Descriptor::Socket {
                socket,
                nonblocking,
                ..
            } => {
                at.check_stream()?;
                sock::send_all(memory, socket, buffers, *nonblocking).await
            }
            Descriptor::Dir { .. } => Err(Errno::Isdir.into()),
            Descriptor::Listener { .. } => Err(Errno::Notconn.into()),
            Descriptor::Stdin { .. } => Err(Errno::Badf.into()),
        }
    }

    async fn write_file(
        &self,
        memory: &GuestMemory<'_>,
        file: File,
        mut buffers: Buffers,
        mut at: At,
    ) -> Result<Size> {
        if !file.is_writable() {
            return Err(Errno::Badf.into());
        }
        let mut done = 0;
        while buffers.piece() > 0 {
            let (file, bytes) = (file.clone(), buffers.peek(memory)?);
            let write = self.blocking.run(move || match at {
                At::Position => file.write(&bytes),
                At::Offset(offset) => file.write_at(&bytes, offset),
            });
            match write.await? {
                Ok(0) => break,
                Ok(count) => {
                    buffers.skip(count)?;
                    done += count;
                    at = at.after(count)?;
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        size(done)
    }

    /// A regular file; `otherwise` for anything else that is open.
    fn file(&self, fd: Fd, otherwise: Errno) -> Result<File> {
        match self.table.get(fd)? {
            Descriptor::File(OpenFile { file, .. }) => Ok(file.clone()),
            _ => Err(otherwise.into()),
        }
    }

    async fn on_file<R: Send + 'static>(
        &self,
        file: File,
        work: impl FnOnce(&File) -> fs::Result<R> + Send + 'static,
    ) -> Result<R> {
        Ok(self.blocking.run(move || work(&file)).await??)
    }

    pub(super) async fn seek(&self, fd: Fd, offset: Filedelta, whence: Whence) -> Result<Filesize> {
        let to = match whence {
            Whence::Set => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::Inval)?),
            Whence::Cur => SeekFrom::Current(offset),
            Whence::End => SeekFrom::End(offset),
        };
        let file = self.seekable(fd)?;
        self.on_file(file, move |file| file.seek(to)).await
    }

    /// Needs no thread that may block: the kernel only reads the descriptor's position.
    pub(super) fn tell(&self, fd: Fd) -> Result<Filesize> {
        Ok(self.seekable(fd)?.seek(SeekFrom::Current(0))?)
    }

    fn seekable(&self, fd: Fd) -> Result<File> {
        let is_dir = matches!(self.table.get(fd)?, Descriptor::Dir { .. });
        self.file(fd, if is_dir { Errno::Badf } else { Errno::Spipe })
    }

    pub(super) async fn advise(
        &self,
        fd: Fd,
        offset: u64,
        length: u64,
        advice: Advice,
    ) -> Result<()> {
        let advice = match advice {
            Advice::Normal => fs::Advice::Normal,
            Advice::Sequential => fs::Advice::Sequential,
            Advice::Random => fs::Advice::Random,
            Advice::Willneed => fs::Advice::WillNeed,
            Advice::Dontneed => fs::Advice::DontNeed,
            Advice::Noreuse => fs::Advice::NoReuse,
        };
        let file = self.seekable(fd)?;
        self.on_file(file, move |file| file.advise(offset, length, advice))
            .await
    }

    pub(super) async fn allocate(&self, fd: Fd, offset: u64, length: u64) -> Result<()> {
        let file = self.seekable(fd)?;
        self.on_file(file, move |file| file.allocate(offset, length))
            .await
    }

    pub(super) async fn sync(&self, fd: Fd, data_only: bool) -> Result<()> {
        if let Descriptor::Dir { dir, .. } = self.table.get(fd)? {
            let dir = dir.clone();
            return Ok(self.blocking.run(move || dir.sync()).await??);
        }
        let file = self.file(fd, Errno::Inval)?;
        self.on_file(file, move |file| {
            if data_only {
                file.sync_data()
            } else {
                file.sync()
            }
        })
        .await
    }

    pub(super) async fn set_size(&self, fd: Fd, size: Filesize) -> Result<()> {
        let file = self.file(fd, Errno::Inval)?;
        self.on_file(file, move |file| file.set_size(size)).await
    }

    pub(super) async fn set_times(
        &self,
        fd: Fd,
        (accessed, modified): (SetTime, SetTime),
    ) -> Result<()> {
        if let Descriptor::Dir { dir, .. } = self.table.get(fd)? {
            let dir = dir.clone();
            return Ok(self
                .blocking
                .run(move || dir.set_times(accessed, modified))
                .await??);
        }
        let file = self.file(fd, Errno::Badf)?;
        self.on_file(file, move |file| file.set_times(accessed, modified))
            .await
    }

    /// Closes a descriptor. What a file system does at a close may block, so it is not done here.
    pub(super) async fn close(&mut self, fd: Fd) -> Result<()> {
        let descriptor = self.table.remove(fd)?;
        self.release(descriptor).await
    }

    pub(super) async fn renumber(&mut self, from: Fd, to: Fd) -> Result<()> {
        match self.table.renumber(from.into(), to.into())? {
            Some(replaced) => self.release(replaced).await,
            None => Ok(()),
        }
    }

    async fn release(&self, descriptor: Descriptor) -> Result<()> {
        match descriptor {
            Descriptor::File(open) => Ok(self.blocking.run(move || drop(open)).await?),
            other => {
                drop(other);
                Ok(())
            }
        }
    }

    pub(super) fn blocking(&self) -> Arc<crate::Blocking> {
        Arc::clone(&self.blocking)
    }
}

/// What the flags of a call that sets times ask for. Both a time and the present one is `EINVAL`.
pub(super) fn times(
    accessed: Timestamp,
    modified: Timestamp,
    flags: Fstflags,
) -> Result<(SetTime, SetTime)> {
    let one = |to: bool, now: bool, time| match (to, now) {
        (true, true) => Err(Errno::Inval),
        (true, false) => Ok(SetTime::To(Time::from_nanos(time))),
        (false, true) => Ok(SetTime::Now),
        (false, false) => Ok(SetTime::Keep),
    };
    let has = |flag| flags.contains(flag);
    Ok((
        one(has(Fstflags::ATIM), has(Fstflags::ATIM_NOW), accessed)?,
        one(has(Fstflags::MTIM), has(Fstflags::MTIM_NOW), modified)?,
    ))
}

pub(super) fn size(count: usize) -> Result<Size> {
    Ok(Size::try_from(count).map_err(|_| Errno::Overflow)?)
}
