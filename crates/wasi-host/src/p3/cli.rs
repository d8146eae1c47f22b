//! `wasi:cli`: as preview2 has it, and standard streams as streams of the component model.

use std::io;

use wasmtime::component::{Access, FutureReader, Resource, StreamReader};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::p3::bindings::cli::types::ErrorCode;
use wasmtime_wasi::p3::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use wasmtime_wasi::p3::cli::{TerminalInput, TerminalOutput};

use super::pipe::{self, Code, Readable, Told};
use crate::Exit;
use crate::p2::{HasHost, HostView, Input, Output};

impl Code for ErrorCode {
    fn of(error: &io::Error) -> ErrorCode {
        match error.kind() {
            io::ErrorKind::BrokenPipe => ErrorCode::Pipe,
            io::ErrorKind::InvalidData => ErrorCode::IllegalByteSequence,
            _ => ErrorCode::Io,
        }
    }
}

impl environment::Host for HostView<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.host.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.host.args.clone())
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(Some(self.host.cwd.clone()))
    }
}

impl exit::Host for HostView<'_> {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Exit(u8::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(Exit(code).into())
    }
}

impl stdin::Host for HostView<'_> {}
impl stdout::Host for HostView<'_> {}
impl stderr::Host for HostView<'_> {}

impl<T: 'static> stdin::HostWithStore<T> for HasHost {
    fn read_via_stream(mut store: Access<'_, T, Self>) -> wasmtime::Result<Readable<ErrorCode>> {
        let input: DynInputStream = Box::new(Input::new(&store.get().host.stdin));
        pipe::readable(&mut store, input)
    }
}

impl<T: 'static> stdout::HostWithStore<T> for HasHost {
    fn write_via_stream(
        mut store: Access<'_, T, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Told<ErrorCode>>> {
        let host = store.get().host;
        let work = host.work.clone();
        let output: DynOutputStream = Box::new(Output::new(&host.stdout, &work));
        pipe::written(&mut store, data, output, &work)
    }
}

impl<T: 'static> stderr::HostWithStore<T> for HasHost {
    fn write_via_stream(
        mut store: Access<'_, T, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Told<ErrorCode>>> {
        let host = store.get().host;
        let work = host.work.clone();
        let output: DynOutputStream = Box::new(Output::new(&host.stderr, &work));
        pipe::written(&mut store, data, output, &work)
    }
}

impl terminal_input::Host for HostView<'_> {}
impl terminal_output::Host for HostView<'_> {}

impl terminal_input::HostTerminalInput for HostView<'_> {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::HostTerminalOutput for HostView<'_> {
    fn drop(&mut self, terminal: Resource<TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_stdin::Host for HostView<'_> {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<TerminalInput>>> {
        Ok(match self.host.tty.stdin {
            true => Some(self.table.push(TerminalInput)?),
            false => None,
        })
    }
}

impl HostView<'_> {
    fn terminal(&mut self, is_one: bool) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(match is_one {
            true => Some(self.table.push(TerminalOutput)?),
            false => None,
        })
    }
}

impl terminal_stdout::Host for HostView<'_> {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        self.terminal(self.host.tty.stdout)
    }
}

impl terminal_stderr::Host for HostView<'_> {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        self.terminal(self.host.tty.stderr)
    }
}
