//! Installing compiled code: the runtime (arena and shared stubs) and one trace's published pieces.

use super::arena::{Arena, ArenaError, Block};
use super::exec;

/// Arena and stubs of one VM; made when the first trace is ready.
#[derive(Debug)]
pub struct Runtime {
    /// Code memory.
    pub arena: Arena,
    /// Calls a trace from the platform's convention.
    enter: usize,
    /// What an exit without a side trace jumps to: returns the exit code.
    leave: usize,
}

/// Code bytes of the shared stubs.
#[derive(Clone, Debug)]
pub struct StubCode {
    /// See [`Runtime`].
    pub enter: Vec<u8>,
    /// See [`Runtime`].
    pub leave: Vec<u8>,
}

/// The pieces of one trace in code memory.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    code: Block,
    thunk: Block,
    /// Bytes of code.
    size: usize,
    /// Address for jumps from other traces.
    pub tail_entry: usize,
    /// Address for the interpreter.
    pub entry: usize,
}

impl Runtime {
    /// Maps an arena of `size` bytes in areas of `area` bytes, and publishes the stubs.
    pub fn new(size: usize, area: usize, stubs: &StubCode) -> Result<Runtime, ArenaError> {
        let mut arena = Arena::new(size, area)?;
        let enter = arena.publish(&stubs.enter)?;
        let leave = arena.publish(&stubs.leave)?;
        let (enter, leave) = (arena.address(enter), arena.address(leave));
        Ok(Runtime { arena, enter, leave })
    }

    /// Publishes a trace.
    pub fn install(&mut self, code: &[u8]) -> Result<Installed, ArenaError> {
        let size = code.len();
        let code = self.arena.publish(code)?;
        let tail_entry = self.arena.address(code);
        let thunk = match self.arena.publish(&exec::thunk(tail_entry, self.enter)) {
            Ok(t) => t,
            Err(e) => {
                self.arena.release(code);
                return Err(e);
            }
        };
        Ok(Installed { code, thunk, size, tail_entry, entry: self.arena.address(thunk) })
    }

    /// The code of a trace that is in this runtime.
    pub fn code(&self, i: Installed) -> Option<Vec<u8>> {
        self.arena.contains(i.tail_entry).then(|| self.arena.bytes(i.code, i.size))
    }

    /// Gives a trace's memory back. No machine frame may be inside it.
    pub fn remove(&mut self, i: Installed) {
        self.arena.release(i.code);
        self.arena.release(i.thunk);
    }

    /// The stub that exits jump to while they have no side trace.
    pub fn leave_stub(&self) -> usize {
        self.leave
    }
}
