//! What is told of traces: the lines of `-jv`, positions for those who listen, and what `jit.util` reads.

use super::Engine;
use crate::abort::Abort;
use crate::record::{Kind, Rec};
use crate::trace::Trace;
use crate::trace::link::Link;
use crate::view::At;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::proto::Proto;
use moonlit_vm::index::TraceNo;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::CodePlace;
use moonlit_vm::value::Value;

impl Engine {
    /// One line of `-jv`. What goes to standard output stays in order with what the program writes there.
    pub(super) fn say(&self, vm: &mut Vm, line: &str) {
        use std::io::Write;
        // Where the text goes does not matter to the program: errors of writing are ignored.
        let _ = match self.opts.output.as_str() {
            "" => writeln!(std::io::stderr(), "{line}"),
            "-" => {
                moonlit_vm::lib::io::write_stdout(vm, format!("{line}\n").as_bytes());
                Ok(())
            }
            file => std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut f| writeln!(f, "{line}")),
        };
    }

    /// What was not recorded, or not compiled, and why.
    pub(super) fn note(&self, vm: &mut Vm, why: Abort) {
        if self.opts.verbose {
            let line = format!("[TRACE --- -- {}]", why.text(Some(vm)));
            self.say(vm, &line);
        }
    }

    /// `chunk:line` of an instruction.
    fn place(&self, vm: &Vm, proto: Option<Gc<Proto>>, pc: usize) -> String {
        let Some(pt) = proto else { return format!("0x{pc:x}") };
        let p = pt.get(&vm.heap);
        let pos = pc.wrapping_sub(p.code().as_ptr() as usize) / 4;
        let line = p.line_at(pos as u32).unwrap_or(0);
        let text = moonlit_vm::bytecode::chunkname::location(p.chunkname.bytes(&vm.heap), line, pt.addr());
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How `-jv` names the start of a trace.
    pub(super) fn start_text(
        &self,
        vm: &Vm,
        kind: Kind,
        proto: Option<Gc<Proto>>,
        start_pc: usize,
    ) -> String {
        match kind {
            Kind::Loop { pc, .. } | Kind::Function { pc } => self.place(vm, proto, pc),
            Kind::Side { parent, exit } => {
                format!("({parent}/{exit}) {}", self.place(vm, proto, start_pc))
            }
        }
    }

    /// An instruction for those who listen.
    pub(super) fn code_place(vm: &Vm, at: Option<At>) -> CodePlace {
        let Some(at) = at else { return CodePlace { func: Value::NIL, pos: 0 } };
        let code = at.proto(&vm.heap).map(|p| p.get(&vm.heap).code().as_ptr() as usize);
        CodePlace {
            func: at.func().map_or(Value::NIL, Value::obj),
            pos: code.map_or(-1, |c| ((at.pc as usize).wrapping_sub(c) / 4) as i32),
        }
    }

    /// Where the loop and the exits are in the code of a trace, on machines whose code can be read here.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn places(&self, no: TraceNo, code: &[u8]) -> crate::dump::Places {
        let Some(t) = self.trace(no) else { return Default::default() };
        crate::disasm::x86::places(code, no.index() as u32, t.snaps.len(), t.link == Link::Loop)
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn places(&self, _: TraceNo, _: &[u8]) -> crate::dump::Places {
        Default::default()
    }

    /// A trace that there is.
    pub(super) fn trace(&self, no: TraceNo) -> Option<&Trace> {
        self.traces.get(no.index())?.as_ref().map(|t| &t.trace)
    }

    /// The line of a recording that has ended without a trace.
    pub(super) fn say_aborted(&self, vm: &mut Vm, rec: &Rec, why: Abort) {
        if self.opts.verbose {
            let start = self.start_text(vm, rec.kind, self.rec_proto, rec.start_pc);
            let at = self.at.map(|at| self.place(vm, at.proto(&vm.heap), at.pc as usize));
            let at = at.filter(|at| !start.ends_with(at)).map_or(String::new(), |at| format!(" at {at}"));
            let line = format!("[TRACE --- {start} -- {}{at}]", why.text(Some(vm)));
            self.say(vm, &line);
        }
    }

    /// The line of a recording that becomes trace `no`.
    pub(super) fn say_recorded(&self, vm: &mut Vm, rec: &Rec, no: usize) {
        if self.opts.verbose {
            let start = self.start_text(vm, rec.kind, self.rec_proto, rec.start_pc);
            let function = rec.is_function();
            let link = match rec.trace.link {
                Link::Loop => " loop".to_string(),
                Link::Root(0) if function => " up-recursion".to_string(),
                Link::Root(0) => " loop".to_string(),
                Link::Interp if function => " return".to_string(),
                Link::Root(n) => format!(" -> {n}"),
                Link::Interp | Link::None => " -- fallback to interpreter".to_string(),
            };
            self.say(vm, &format!("[TRACE {no:3} {start}{link}]"));
        }
    }
}
