//! The functions of preview1, each by the one of [`Ctx`] that does it.

use super::file::{At, times};
use super::memory::{self, Buffers, as_usize};
use super::table::Descriptor;
use super::types::{
    Advice, CiovecArray, Clockid, Dircookie, Errno, Event, Exitcode, Fd, Fdflags, Fdstat,
    Filedelta, Filesize, Filestat, Fstflags, IovecArray, Lookupflags, Oflags, Prestat, PrestatDir,
    Riflags, Rights, Roflags, Sdflags, Siflags, Signal, Size, Subscription, Timestamp, Whence,
};
use super::wasi_snapshot_preview1::WasiSnapshotPreview1;
use super::{Ctx, Result, path, turn};
use crate::Exit;
use wiggle::{GuestMemory, GuestPtr};

/// How much randomness a guest gets in one turn, in bytes.
const RANDOM_BYTES: u32 = 64 * 1024;

impl WasiSnapshotPreview1 for Ctx {
    // What the host holds of a guest's call is bounded call by call, so there is no fuel to count.
    fn set_hostcall_fuel(&mut self, _: usize) {}

    fn args_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        argv: GuestPtr<GuestPtr<u8>>,
        argv_buf: GuestPtr<u8>,
    ) -> Result<()> {
        memory::strings(memory, &self.args, argv, argv_buf)
    }
    fn args_sizes_get(&mut self, _: &mut GuestMemory<'_>) -> Result<(Size, Size)> {
        memory::string_sizes(&self.args)
    }
    fn environ_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        environ: GuestPtr<GuestPtr<u8>>,
        environ_buf: GuestPtr<u8>,
    ) -> Result<()> {
        memory::strings(memory, &self.env, environ, environ_buf)
    }
    fn environ_sizes_get(&mut self, _: &mut GuestMemory<'_>) -> Result<(Size, Size)> {
        memory::string_sizes(&self.env)
    }
    fn clock_res_get(&mut self, _: &mut GuestMemory<'_>, id: Clockid) -> Result<Timestamp> {
        self.clock_resolution(id)
    }
    fn clock_time_get(
        &mut self,
        _: &mut GuestMemory<'_>,
        id: Clockid,
        _precision: Timestamp,
    ) -> Result<Timestamp> {
        self.clock_time(id)
    }
    async fn fd_advise(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> Result<()> {
        self.advise(fd, offset, len, advice).await
    }
    async fn fd_allocate(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        offset: Filesize,
        len: Filesize,
    ) -> Result<()> {
        self.allocate(fd, offset, len).await
    }
    async fn fd_close(&mut self, _: &mut GuestMemory<'_>, fd: Fd) -> Result<()> {
        self.close(fd).await
    }
    async fn fd_datasync(&mut self, _: &mut GuestMemory<'_>, fd: Fd) -> Result<()> {
        self.sync(fd, true).await
    }
    fn fd_fdstat_get(&mut self, _: &mut GuestMemory<'_>, fd: Fd) -> Result<Fdstat> {
        self.fdstat(fd)
    }
    fn fd_fdstat_set_flags(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        flags: Fdflags,
    ) -> Result<()> {
        self.set_fdflags(fd, flags)
    }
    fn fd_fdstat_set_rights(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        _base: Rights,
        _inheriting: Rights,
    ) -> Result<()> {
        // Rights are no more: what may be done is told by the kernel.
        self.table.get(fd)?;
        Err(Errno::Notsup.into())
    }
    async fn fd_filestat_get(&mut self, _: &mut GuestMemory<'_>, fd: Fd) -> Result<Filestat> {
        self.filestat(fd).await
    }
    async fn fd_filestat_set_size(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        size: Filesize,
    ) -> Result<()> {
        self.set_size(fd, size).await
    }
    async fn fd_filestat_set_times(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        atim: Timestamp,
        mtim: Timestamp,
        flags: Fstflags,
    ) -> Result<()> {
        self.set_times(fd, times(atim, mtim, flags)?).await
    }
    async fn fd_pread(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        iovs: IovecArray,
        offset: Filesize,
    ) -> Result<Size> {
        let buffers = Buffers::to_fill(memory, iovs)?;
        self.read(memory, fd, buffers, At::Offset(offset)).await
    }
    fn fd_prestat_get(&mut self, _: &mut GuestMemory<'_>, fd: Fd) -> Result<Prestat> {
        let pr_name_len = super::file::size(self.preopen(fd)?.len())?;
        Ok(Prestat::Dir(PrestatDir { pr_name_len }))
    }
    fn fd_prestat_dir_name(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<u8>,
        path_len: Size,
    ) -> Result<()> {
        let name = self.preopen(fd)?;
        if name.len() > as_usize(path_len) {
            return Err(Errno::Nametoolong.into());
        }
        let count = super::file::size(name.len())?;
        Ok(memory.copy_from_slice(name.as_bytes(), path.as_array(count))?)
    }
    async fn fd_pwrite(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        ciovs: CiovecArray,
        offset: Filesize,
    ) -> Result<Size> {
        let buffers = Buffers::to_drain(memory, ciovs)?;
        self.write(memory, fd, buffers, At::Offset(offset)).await
    }
    async fn fd_read(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        iovs: IovecArray,
    ) -> Result<Size> {
        let buffers = Buffers::to_fill(memory, iovs)?;
        self.read(memory, fd, buffers, At::Position).await
    }
    async fn fd_readdir(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        buf: GuestPtr<u8>,
        buf_len: Size,
        cookie: Dircookie,
    ) -> Result<Size> {
        self.readdir(memory, fd, buf, buf_len, cookie).await
    }
    async fn fd_renumber(&mut self, _: &mut GuestMemory<'_>, fd: Fd, to: Fd) -> Result<()> {
        self.renumber(fd, to).await
    }
    async fn fd_seek(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: Fd,
        offset: Filedelta,
        whence: Whence,
    ) -> Result<Filesize> {
        self.seek(fd, offset, whence).await
    }
    async fn fd_sync(&mut self, _: &mut GuestMemory<'_>, fd: Fd) -> Result<()> {
        self.sync(fd, false).await
    }
    fn fd_tell(&mut self, _: &mut GuestMemory<'_>, fd: Fd) -> Result<Filesize> {
        self.tell(fd)
    }
    async fn fd_write(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        ciovs: CiovecArray,
    ) -> Result<Size> {
        let buffers = Buffers::to_drain(memory, ciovs)?;
        self.write(memory, fd, buffers, At::Position).await
    }
    async fn path_create_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.on_path(memory, fd, path, |root, dir, path| {
            root.create_dir(dir, path)
        })
        .await
    }
    async fn path_filestat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        flags: Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<Filestat> {
        self.path_stat(memory, fd, flags, path).await
    }
    async fn path_filestat_set_times(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        flags: Lookupflags,
        path: GuestPtr<str>,
        atim: Timestamp,
        mtim: Timestamp,
        fst_flags: Fstflags,
    ) -> Result<()> {
        self.path_set_times(memory, fd, flags, path, times(atim, mtim, fst_flags)?)
            .await
    }
    async fn path_link(
        &mut self,
        memory: &mut GuestMemory<'_>,
        old_fd: Fd,
        old_flags: Lookupflags,
        old_path: GuestPtr<str>,
        new_fd: Fd,
        new_path: GuestPtr<str>,
    ) -> Result<()> {
        let follow = path::follows(old_flags);
        self.on_paths(
            memory,
            (old_fd, old_path),
            (new_fd, new_path),
            move |root, from, to| root.link(from.0, from.1, follow, to.0, to.1),
        )
        .await
    }
    async fn path_open(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        dirflags: Lookupflags,
        path: GuestPtr<str>,
        oflags: Oflags,
        rights: Rights,
        _inheriting: Rights,
        flags: Fdflags,
    ) -> Result<Fd> {
        let options = path::open_options(dirflags, oflags, rights, flags);
        self.open(memory, fd, path, options, flags).await
    }
    async fn path_readlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
        buf: GuestPtr<u8>,
        buf_len: Size,
    ) -> Result<Size> {
        self.read_link(memory, fd, path, buf, buf_len).await
    }
    async fn path_remove_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.on_path(memory, fd, path, |root, dir, path| {
            root.remove_dir(dir, path)
        })
        .await
    }
    async fn path_rename(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        old_path: GuestPtr<str>,
        new_fd: Fd,
        new_path: GuestPtr<str>,
    ) -> Result<()> {
        self.on_paths(
            memory,
            (fd, old_path),
            (new_fd, new_path),
            |root, from, to| root.rename(from.0, from.1, to.0, to.1),
        )
        .await
    }
    async fn path_symlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        old_path: GuestPtr<str>,
        fd: Fd,
        new_path: GuestPtr<str>,
    ) -> Result<()> {
        self.make_symlink(memory, old_path, fd, new_path).await
    }
    async fn path_unlink_file(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.on_path(memory, fd, path, |root, dir, path| root.unlink(dir, path))
            .await
    }
    async fn poll_oneoff(
        &mut self,
        memory: &mut GuestMemory<'_>,
        subs: GuestPtr<Subscription>,
        events: GuestPtr<Event>,
        nsubscriptions: Size,
    ) -> Result<Size> {
        self.poll(memory, subs, events, nsubscriptions).await
    }
    fn proc_exit(&mut self, _: &mut GuestMemory<'_>, code: Exitcode) -> wiggle::error::Error {
        // What a parent sees of an exit code in POSIX: its low 8 bits.
        let [low, ..] = code.to_le_bytes();
        wiggle::error::Error::from(Exit(low))
    }
    fn proc_raise(&mut self, _: &mut GuestMemory<'_>, _signal: Signal) -> Result<()> {
        Err(Errno::Notsup.into())
    }
    fn sched_yield(&mut self, _: &mut GuestMemory<'_>) -> Result<()> {
        // Turns end by epochs.
        Ok(())
    }
    async fn random_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        buf: GuestPtr<u8>,
        buf_len: Size,
    ) -> Result<()> {
        self.random(memory, buf, buf_len).await
    }
    async fn sock_accept(&mut self, _: &mut GuestMemory<'_>, fd: Fd, flags: Fdflags) -> Result<Fd> {
        self.accept(fd, flags).await
    }
    async fn sock_recv(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        iovs: IovecArray,
        flags: Riflags,
    ) -> Result<(Size, Roflags)> {
        let buffers = Buffers::to_fill(memory, iovs)?;
        self.recv(memory, fd, buffers, flags).await
    }
    async fn sock_send(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        ciovs: CiovecArray,
        flags: Siflags,
    ) -> Result<Size> {
        if flags != 0 {
            return Err(Errno::Inval.into());
        }
        let buffers = Buffers::to_drain(memory, ciovs)?;
        self.send(memory, fd, buffers).await
    }
    fn sock_shutdown(&mut self, _: &mut GuestMemory<'_>, fd: Fd, how: Sdflags) -> Result<()> {
        self.shutdown(fd, how)
    }
}

impl Ctx {
    fn preopen(&self, fd: Fd) -> Result<&'static str> {
        match self.table.get(fd)? {
            Descriptor::Dir {
                preopen: Some(name),
                ..
            } => Ok(name),
            _ => Err(Errno::Badf.into()),
        }
    }

    /// Fills `length` bytes at `buffer`, some each turn.
    async fn random(
        &self,
        memory: &mut GuestMemory<'_>,
        buffer: GuestPtr<u8>,
        length: Size,
    ) -> Result<()> {
        memory::check(memory, buffer, length)?;
        let mut done = 0;
        let mut piece = vec![0; as_usize(length.min(RANDOM_BYTES))];
        while done < length {
            let count = (length - done).min(RANDOM_BYTES);
            let bytes = piece.get_mut(..as_usize(count)).ok_or(Errno::Fault)?;
            fill_random(bytes)?;
            memory.copy_from_slice(bytes, buffer.add(done)?.as_array(count))?;
            done += count;
            if done < length {
                turn::end().await;
            }
        }
        Ok(())
    }
}

/// From the kernel, which may give less than asked.
fn fill_random(mut bytes: &mut [u8]) -> Result<()> {
    while !bytes.is_empty() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut *bytes, flags) {
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
