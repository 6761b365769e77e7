//! `lfs`: LuaFileSystem, built in. Answers are those of LuaFileSystem 1.8 on POSIX systems.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::{check_option, push_failure, set_field, set_loaded, set_preload, sys};
use crate::cell::gc_ref::Gc;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use crate::table::Table;
use crate::userdata::Userdata;
use crate::value::Value;

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("lfs.attributes", attributes),
    NativeRow::new("lfs.chdir", chdir),
    NativeRow::new("lfs.currentdir", currentdir),
    NativeRow::new("lfs.dir", dir),
    NativeRow::new("lfs.link", link),
    NativeRow::new("lfs.lock", lock),
    NativeRow::new("lfs.lock_dir", lock_dir),
    NativeRow::new("lfs.mkdir", mkdir),
    NativeRow::new("lfs.rmdir", rmdir),
    NativeRow::new("lfs.setmode", setmode),
    NativeRow::new("lfs.symlinkattributes", symlinkattributes),
    NativeRow::new("lfs.touch", touch),
    NativeRow::new("lfs.unlock", unlock),
];

/// Methods of a folder that is being read, and of a lock.
pub const METHODS: &[NativeRow] =
    &[NativeRow::new("lfs.dir:close", dir_close), NativeRow::new("lfs.dir:next", dir_next)];
const LOCK_METHODS: &[NativeRow] = &[NativeRow::new("lfs.lock:free", lock_free)];

/// Makes `require "lfs"` known.
pub fn open(vm: &mut Vm) {
    set_preload(vm, "lfs", NativeRow::new("lfs.load", load));
}

/// Metatables of the library's objects, in the registry.
const DIR_META: &str = "directory metatable";
const LOCK_META: &str = "lock metatable";

fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.heap.new_table(0, 16);
    vm.register(t, FNS);
    for (name, text) in [
        ("_COPYRIGHT", "Copyright (C) 2026 The Moonlit developers"),
        ("_DESCRIPTION", "File system functions with the interface of LuaFileSystem"),
        ("_VERSION", "LuaFileSystem 1.8.0"),
    ] {
        let s = vm.heap.str(text.as_bytes());
        set_field(vm, t, name, Value::obj(s));
    }
    for (name, methods, ends) in [(DIR_META, METHODS, "close"), (LOCK_META, LOCK_METHODS, "free")] {
        let meta = super::registry_table(vm, name);
        let index = vm.heap.new_table(0, 2);
        vm.register(index, methods);
        set_field(vm, meta, "__index", Value::obj(index));
        let end = index.get_bytes(&vm.heap, ends.as_bytes());
        set_field(vm, meta, "__gc", end);
    }
    set_loaded(vm, "lfs", Value::obj(t));
    Ok(Outcome::one(Value::obj(t)))
}

fn bytes(vm: &mut Vm, i: usize) -> Result<Vec<u8>, Raised> {
    Ok(vm.check_str(i)?.bytes(&vm.heap).to_vec())
}

/// `true`, or nil, the reason and the error's number.
fn answer(vm: &mut Vm, r: io::Result<()>) -> NativeResult {
    match r {
        Ok(()) => Ok(Outcome::one(Value::TRUE)),
        Err(e) => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
    }
}

/// The attributes there are, in the order of the table.
const ATTRIBUTES: &[&str] = &[
    "mode",
    "dev",
    "ino",
    "nlink",
    "uid",
    "gid",
    "rdev",
    "access",
    "modification",
    "change",
    "size",
    "permissions",
    "blocks",
    "blksize",
];

fn kind(t: std::fs::FileType) -> &'static str {
    match () {
        () if t.is_file() => "file",
        () if t.is_dir() => "directory",
        () if t.is_symlink() => "link",
        () if t.is_socket() => "socket",
        () if t.is_fifo() => "named pipe",
        () if t.is_char_device() => "char device",
        () if t.is_block_device() => "block device",
        () => "other",
    }
}

fn permissions(mode: u32) -> String {
    let letters = "rwxrwxrwx".chars().enumerate();
    letters.map(|(i, c)| if mode >> (8 - i) & 1 == 1 { c } else { '-' }).collect()
}

fn attribute(vm: &mut Vm, m: &std::fs::Metadata, name: &str) -> Value {
    let number = |n: u64| Value::num(n as f64);
    match name {
        "mode" => Value::obj(vm.heap.str(kind(m.file_type()).as_bytes())),
        "permissions" => Value::obj(vm.heap.str(permissions(m.mode()).as_bytes())),
        "dev" => number(m.dev()),
        "ino" => number(m.ino()),
        "nlink" => number(m.nlink()),
        "uid" => number(m.uid() as u64),
        "gid" => number(m.gid() as u64),
        "rdev" => number(m.rdev()),
        "access" => Value::num(m.atime() as f64),
        "modification" => Value::num(m.mtime() as f64),
        "change" => Value::num(m.ctime() as f64),
        "size" => number(m.size()),
        "blocks" => number(m.blocks()),
        _ => number(m.blksize()),
    }
}

/// Attributes of what `read` finds at the path in argument 0: one of them, or all in a table (argument 1).
fn attributes_by(
    vm: &mut Vm,
    read: fn(&std::path::Path) -> io::Result<std::fs::Metadata>,
    links: bool,
) -> NativeResult {
    let name = bytes(vm, 0)?;
    let m = match sys::path(&name).and_then(|p| read(&p)) {
        Ok(m) => m,
        Err(e) => {
            let reason = sys::error_text(&e);
            let text =
                [b"cannot obtain information from file '", &name[..], b"': ", reason.as_bytes()].concat();
            return push_failure(vm, &text, sys::error_code(&e));
        }
    };
    let target = |vm: &mut Vm| match sys::path(&name).and_then(std::fs::read_link) {
        Ok(p) => Value::obj(vm.heap.str(p.as_os_str().as_bytes())),
        Err(_) => Value::NIL,
    };
    if vm.arg(1).is::<crate::string::Str>() || vm.arg(1).is_num() {
        let wanted = bytes(vm, 1)?;
        if links && wanted == b"target" {
            return Ok(Outcome::one(target(vm)));
        }
        let Some(a) = ATTRIBUTES.iter().find(|a| a.as_bytes() == wanted) else {
            let text = [b"invalid attribute name '", &wanted[..], b"'"].concat();
            return Err(vm.throw_str(&text));
        };
        return Ok(Outcome::one(attribute(vm, &m, a)));
    }
    let t = match vm.arg(1).as_obj::<Table>() {
        Some(t) => t,
        None => vm.heap.new_table(0, 16),
    };
    for a in ATTRIBUTES {
        let v = attribute(vm, &m, a);
        set_field(vm, t, a, v);
    }
    if links {
        let v = target(vm);
        set_field(vm, t, "target", v);
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// `lfs.attributes(path, name or table)`: one attribute, or all of them. Follows links. Raises
/// `invalid attribute name 'x'`.
fn attributes(vm: &mut Vm, _: Entry) -> NativeResult {
    attributes_by(vm, |p| std::fs::metadata(p), false)
}

/// `lfs.symlinkattributes(path, name or table)`: of the link itself; `target` is what it points to.
fn symlinkattributes(vm: &mut Vm, _: Entry) -> NativeResult {
    attributes_by(vm, |p| std::fs::symlink_metadata(p), true)
}

/// `lfs.chdir(path)`: for the whole process.
fn chdir(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = bytes(vm, 0)?;
    match sys::path(&name).and_then(std::env::set_current_dir) {
        Ok(()) => Ok(Outcome::one(Value::TRUE)),
        Err(e) => {
            let reason = sys::error_text(&e);
            let text =
                [b"Unable to change working directory to '", &name[..], b"'\n", reason.as_bytes(), b"\n"]
                    .concat();
            vm.push(Value::NIL);
            let s = vm.heap.str(&text);
            vm.push(Value::obj(s));
            Ok(Outcome::top(2))
        }
    }
}

/// `lfs.currentdir()`.
fn currentdir(vm: &mut Vm, _: Entry) -> NativeResult {
    match std::env::current_dir() {
        Ok(p) => Ok(Outcome::one(Value::obj(vm.heap.str(p.as_os_str().as_bytes())))),
        Err(e) => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
    }
}

/// A folder that is being read: `.` and `..` come first, as the system has them; `None` when closed.
struct Dir {
    entries: Option<std::fs::ReadDir>,
    dots: u8,
}

fn dir_of(vm: &mut Vm) -> Result<Gc<Userdata>, Raised> {
    let u = vm.arg(0).as_obj::<Userdata>();
    match u {
        Some(u) if u.downcast::<Dir>(&vm.heap).is_some() => Ok(u),
        _ => Err(vm.type_error(0, DIR_META)),
    }
}

/// `lfs.dir(path)`: an iterator over the names in a folder, and the object it works on (`:next()`, `:close()`).
/// Raises `cannot open path: reason`.
fn dir(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = bytes(vm, 0)?;
    let entries = match sys::path(&name).and_then(std::fs::read_dir) {
        Ok(e) => e,
        Err(e) => {
            let text = [b"cannot open ", &name[..], b": ", sys::error_text(&e).as_bytes()].concat();
            return Err(vm.throw_str(&text));
        }
    };
    let meta = super::registry_table(vm, DIR_META);
    let index = meta.get_bytes(&vm.heap, b"__index").as_obj::<Table>();
    let next = index.map_or(Value::NIL, |t| t.get_bytes(&vm.heap, b"next"));
    vm.push(next);
    let u = vm.heap.new_udata(Dir { entries: Some(entries), dots: 0 }, Some(meta));
    vm.push(u.value());
    Ok(Outcome::top(2))
}

/// `d:next()`: the next name, nil at the end. Raises `closed directory`.
fn dir_next(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = dir_of(vm)?;
    let next = match u.downcast_mut::<Dir>(&mut vm.heap) {
        Some(Dir { entries: Some(_), dots }) if *dots < 2 => {
            *dots += 1;
            Some(b".."[..*dots as usize].to_vec())
        }
        Some(Dir { entries: Some(entries), .. }) => {
            // An entry that cannot be read is passed over, as `readdir` ends there.
            entries.next().and_then(Result::ok).map(|e| e.file_name().as_bytes().to_vec())
        }
        _ => return Err(vm.arg_error(0, b"closed directory")),
    };
    match next {
        Some(n) => Ok(Outcome::one(Value::obj(vm.heap.str(&n)))),
        None => {
            if let Some(d) = u.downcast_mut::<Dir>(&mut vm.heap) {
                d.entries = None;
            }
            Ok(Outcome::one(Value::NIL))
        }
    }
}

/// `d:close()`.
fn dir_close(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = dir_of(vm)?;
    if let Some(d) = u.downcast_mut::<Dir>(&mut vm.heap) {
        d.entries = None;
    }
    Ok(Outcome::none())
}

/// `lfs.mkdir(path)`.
fn mkdir(vm: &mut Vm, _: Entry) -> NativeResult {
    use std::os::unix::fs::DirBuilderExt;
    let name = bytes(vm, 0)?;
    // rwxrwxr-x, less what the process masks.
    let r = sys::path(&name).and_then(|p| std::fs::DirBuilder::new().mode(0o775).create(p));
    answer(vm, r)
}

/// `lfs.rmdir(path)`: the folder must be empty.
fn rmdir(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = bytes(vm, 0)?;
    answer(vm, sys::path(&name).and_then(std::fs::remove_dir))
}

/// `lfs.link(old, new, symbolic)`.
fn link(vm: &mut Vm, _: Entry) -> NativeResult {
    let (old, new) = (bytes(vm, 0)?, bytes(vm, 1)?);
    let symbolic = vm.arg(2).truthy();
    let r = sys::path(&old).and_then(|old| {
        let new = sys::path(&new)?;
        if symbolic { std::os::unix::fs::symlink(old, new) } else { std::fs::hard_link(old, new) }
    });
    answer(vm, r)
}

/// `lfs.touch(path, access, modification)`: times in seconds; now, or the access time, when left out.
fn touch(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = bytes(vm, 0)?;
    let times = match vm.arg_opt(1) {
        None => None,
        Some(_) => {
            let access = vm.opt_num(1, 0.0)?;
            Some((access, vm.opt_num(2, access)?))
        }
    };
    answer(vm, sys::path(&name).and_then(|p| sys::set_file_times(&p, times)))
}

/// `lfs.setmode(file, mode)`: there is no other mode than `binary`.
fn setmode(vm: &mut Vm, _: Entry) -> NativeResult {
    super::io::descriptor(vm, 0, "setmode")?;
    check_option(vm, 1, None, &["binary", "text"])?;
    vm.push(Value::TRUE);
    let s = vm.heap.str(b"binary");
    vm.push(Value::obj(s));
    Ok(Outcome::top(2))
}

/// Locks or unlocks a range of an open file.
fn lock_range(vm: &mut Vm, kind: sys::LockKind, at: usize, name: &str) -> NativeResult {
    let fd = super::io::descriptor(vm, 0, name)?;
    let (start, len) = (vm.opt_num(at, 0.0)? as i64, vm.opt_num(at + 1, 0.0)? as i64);
    match sys::lock_file(fd, kind, start, len) {
        Ok(()) => Ok(Outcome::one(Value::TRUE)),
        Err(e) => {
            vm.push(Value::NIL);
            let s = vm.heap.str(sys::error_text(&e).as_bytes());
            vm.push(Value::obj(s));
            Ok(Outcome::top(2))
        }
    }
}

/// `lfs.lock(file, mode, start, length)`: mode `r` (shared) or `w` (exclusive). Raises `lock: invalid mode`.
fn lock(vm: &mut Vm, _: Entry) -> NativeResult {
    super::io::descriptor(vm, 0, "lock")?;
    let mode = bytes(vm, 1)?;
    let kind = match mode.first() {
        Some(b'r') => sys::LockKind::Shared,
        Some(b'w') => sys::LockKind::Exclusive,
        Some(b'u') => sys::LockKind::None,
        _ => return Err(vm.throw_str(b"lock: invalid mode")),
    };
    lock_range(vm, kind, 2, "lock")
}

/// `lfs.unlock(file, start, length)`.
fn unlock(vm: &mut Vm, _: Entry) -> NativeResult {
    lock_range(vm, sys::LockKind::None, 1, "unlock")
}

/// A lock on a folder: the path of its lock file, gone once it is freed.
struct DirLock(Option<std::path::PathBuf>);

impl Drop for DirLock {
    fn drop(&mut self) {
        if let Some(p) = self.0.take() {
            // Whoever removed it already has broken the lock.
            let _ = std::fs::remove_file(p);
        }
    }
}

/// `lfs.lock_dir(path, stale_seconds)`: an object with `:free()`; nil and `File exists` while somebody else has one.
fn lock_dir(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = bytes(vm, 0)?;
    let stale = if vm.arg(1).is_nil() { None } else { Some(vm.check_num(1)?) };
    let r = sys::path(&name).and_then(|dir| {
        let file = dir.join("lockfile.lfs");
        if let (Some(stale), Ok(m)) = (stale, std::fs::symlink_metadata(&file))
            && (sys::now_seconds() - m.mtime()) as f64 > stale
        {
            std::fs::remove_file(&file)?;
        }
        std::os::unix::fs::symlink(&dir, &file)?;
        Ok(file)
    });
    match r {
        Ok(file) => {
            let meta = super::registry_table(vm, LOCK_META);
            Ok(Outcome::one(vm.heap.new_udata(DirLock(Some(file)), Some(meta)).value()))
        }
        Err(e) => push_failure(vm, sys::error_text(&e).as_bytes(), sys::error_code(&e)),
    }
}

/// `lock:free()`.
fn lock_free(vm: &mut Vm, _: Entry) -> NativeResult {
    let u = vm.arg(0).as_obj::<Userdata>();
    match u.and_then(|u| u.downcast_mut::<DirLock>(&mut vm.heap)) {
        Some(l) => drop(DirLock(l.0.take())),
        None => return Err(vm.type_error(0, LOCK_META)),
    }
    Ok(Outcome::none())
}
