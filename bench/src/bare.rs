//! The bare engine: what Wasmtime alone needs for the same guest, with its own WASI, no pod, no
//! limits. The peer of every figure here.
//!
//! It is set up as ours is where that costs time: instances on demand, epochs on, no compiler in
//! use. It is better off where it can be: it is synchronous, so a guest runs on the thread's own
//! stack and no runtime is started.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use wasmtime::{Config, Engine, Linker, Module, Store};
use wasmtime_wasi::cli::OutputFile;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

/// An engine and what its guests are linked to.
pub(crate) struct Bare {
    engine: Engine,
    linker: Linker<WasiP1Ctx>,
}

/// How long a run took, from the file of the code on.
pub(crate) struct Took {
    /// Until just before the guest's first instruction.
    pub(crate) ready: Duration,
    /// Until its end.
    pub(crate) whole: Duration,
    /// Its exit code.
    pub(crate) code: i32,
}

/// The engine that a plain embedder has: on-demand allocation, epochs on.
fn engine() -> anyhow::Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    Ok(Engine::new(&config)?)
}

/// Compiles a module into a file that [`Bare::run`] takes.
pub(crate) fn precompile(module: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("{}", module.display()))?;
    std::fs::write(to, engine()?.precompile_module(&bytes)?)?;
    Ok(())
}

/// A whole process: runs a file of [`precompile`] to its end.
pub(crate) fn process(code: &Path) -> anyhow::Result<ExitCode> {
    let took = Bare::new()?.run(code, None)?;
    Ok(ExitCode::from(u8::try_from(took.code)?))
}

impl Bare {
    pub(crate) fn new() -> anyhow::Result<Bare> {
        let engine = engine()?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;
        Ok(Bare { engine, linker })
    }

    /// Runs a file of [`precompile`] to its end, its output into `stdout` or this process's own.
    pub(crate) fn run(&self, code: &Path, stdout: Option<File>) -> anyhow::Result<Took> {
        let begin = Instant::now();
        // SAFETY: the file was written by `precompile` of this very program, in a folder that it
        // made for itself and that nobody else writes to.
        let module = unsafe { Module::deserialize_file(&self.engine, code) }?;
        let mut ctx = WasiCtxBuilder::new();
        match stdout {
            Some(file) => ctx.stdout(OutputFile::new(file)),
            None => ctx.inherit_stdout(),
        };
        let mut store = Store::new(&self.engine, ctx.inherit_stderr().build_p1());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.linker.instantiate(&mut store, &module)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        let ready = begin.elapsed();
        let code = match start.call(&mut store, ()) {
            Ok(()) => 0,
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => exit.0,
                None => anyhow::bail!(error),
            },
        };
        Ok(Took {
            ready,
            whole: begin.elapsed(),
            code,
        })
    }
}
