//! `wasi:cli`: arguments, environment, exit, and what of the standard streams is a terminal.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::cli::terminal_input::{self, TerminalInput};
use wasmtime_wasi::p2::bindings::cli::terminal_output::{self, TerminalOutput};
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::HostView;
use super::stdin::Input;
use super::stdout::Output;
use crate::Exit;

impl environment::Host for HostView<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.host.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.host.args.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(Some(self.host.cwd.clone()))
    }
}

impl exit::Host for HostView<'_> {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(Exit(if status.is_ok() {
            0
        } else {
            1
        })))
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(wasmtime::Error::from(Exit(code)))
    }
}

impl stdin::Host for HostView<'_> {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(Input::new(&self.host.stdin));
        Ok(self.table.push(stream)?)
    }
}

impl stdout::Host for HostView<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Output::new(&self.host.stdout, &self.host.work));
        Ok(self.table.push(stream)?)
    }
}

impl stderr::Host for HostView<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Output::new(&self.host.stderr, &self.host.work));
        Ok(self.table.push(stream)?)
    }
}

impl terminal_input::Host for HostView<'_> {}

impl terminal_input::HostTerminalInput for HostView<'_> {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::Host for HostView<'_> {}

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
    fn output(&mut self, is_terminal: bool) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(match is_terminal {
            true => Some(self.table.push(TerminalOutput)?),
            false => None,
        })
    }
}

impl terminal_stdout::Host for HostView<'_> {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        self.output(self.host.tty.stdout)
    }
}

impl terminal_stderr::Host for HostView<'_> {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        self.output(self.host.tty.stderr)
    }
}
