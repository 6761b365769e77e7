//! Handlers' closures: compiled once per VM, kept as roots, by the number of their code.

use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;

use moonlit_vm::host::native::{Value, Vm};

use super::worker::LuaWorker;
use crate::conf::model::{Level, LuaCode, LuaSource};
use crate::phase::Phase;
use crate::request::Request;
use crate::request::body::bytes_to_path;

/// Why a handler has no closure.
pub struct NoCode {
    /// The status that the request gets.
    pub status: u16,
    /// The reason; `None` when it has been logged.
    pub text: Option<Vec<u8>>,
}

/// The closure of a piece of code; compiled if it is not cached.
pub fn closure(
    w: &Rc<LuaWorker>,
    vm: &mut Vm,
    code: &Arc<LuaCode>,
    req: Option<&Rc<Request>>,
) -> Result<Value, NoCode> {
    let variable_path = matches!(&code.source, LuaSource::File(path) if path.as_literal().is_none());
    // A VM of its own sees its code once.
    let cached = !variable_path;
    if cached && let Some(Some(id)) = w.closures.borrow().get(code.id) {
        return Ok(vm.heap.roots.get(*id));
    }
    let loaded = match &code.source {
        LuaSource::Inline(text) => vm
            .load(text, code.chunk_name.as_bytes(), b"t", None)
            .map_err(|e| (500, "failed to load inlined Lua code: ".to_owned(), e)),
        LuaSource::File(path) => {
            let path = match (path.as_literal(), req) {
                (Some(p), _) => p.to_vec(),
                (None, Some(req)) => {
                    let path = req.eval(path);
                    if path.starts_with(b"/") {
                        path
                    } else {
                        [w.config.prefix.as_os_str().as_bytes(), &path].concat()
                    }
                }
                (None, None) => Vec::new(),
            };
            let shown = String::from_utf8_lossy(&path).into_owned();
            let what = format!("failed to load external Lua file \"{shown}\": ");
            match std::fs::read(bytes_to_path(&path)) {
                Err(e) => {
                    let text = e.to_string();
                    let words = text.split(" (os error").next().unwrap_or(&text);
                    let status = if e.kind() == std::io::ErrorKind::PermissionDenied { 503 } else { 404 };
                    Err((status, what, format!("cannot open {shown}: {words}").into_bytes()))
                }
                Ok(text) => {
                    let name = format!("@{shown}");
                    vm.load(skip_shebang(&text), name.as_bytes(), b"bt", None).map_err(|e| (500, what, e))
                }
            }
        }
    };
    match loaded {
        Ok(f) => {
            let v = Value::obj(f);
            if cached {
                let id = vm.heap.roots.add(v);
                let mut closures = w.closures.borrow_mut();
                if closures.len() <= code.id {
                    closures.resize(code.id + 1, None);
                }
                closures[code.id] = Some(id);
            }
            Ok(v)
        }
        Err((status, what, text)) => {
            // Code outside requests is named by its directive.
            let info = code.phase.info();
            let mut line = match (code.phase, &code.source) {
                (Phase::Init | Phase::InitWorker | Phase::ExitWorker, LuaSource::File(_)) => {
                    format!("{}_file error: ", info.stem).into_bytes()
                }
                (Phase::Init | Phase::InitWorker | Phase::ExitWorker, LuaSource::Inline(_)) => {
                    format!("{} error: ", info.stem).into_bytes()
                }
                _ => what.into_bytes(),
            };
            line.extend_from_slice(&text);
            match req {
                None if code.phase == Phase::Init => return Err(NoCode { status, text: Some(line) }),
                Some(req) => req.log(Level::Error, &line),
                None => w.log_plain(Level::Error, &line),
            }
            Err(NoCode { status, text: None })
        }
    }
}

/// A file may begin with a line for the shell; its line end stays, so that line numbers hold.
fn skip_shebang(text: &[u8]) -> &[u8] {
    if text.first() == Some(&b'#') {
        &text[memchr::memchr(b'\n', text).unwrap_or(text.len())..]
    } else {
        text
    }
}
