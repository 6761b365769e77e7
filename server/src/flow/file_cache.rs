//! `open_file_cache`: descriptors and facts of files that are asked for again and again, and errors where that is
//! asked for.
//!
//! One cache per directive and worker. An entry is believed for `open_file_cache_valid`; then the file is looked
//! at, and a descriptor stays as long as it is still the file of that name.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::conf::filter_settings::FileCacheSize;
use crate::http1::clock;
use crate::request::Request;
use crate::request::body::bytes_to_path;

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its length.
    pub len: u64,
    /// When it was changed last, in seconds since 1970.
    pub modified_s: i64,
    /// It is a directory.
    pub is_dir: bool,
    /// It is a regular file.
    pub is_file: bool,
    /// Which file it is.
    id: (u64, u64),
    modified_ns: i64,
}

impl Facts {
    fn of(meta: &Metadata) -> Facts {
        Facts {
            len: meta.len(),
            modified_s: meta.mtime(),
            is_dir: meta.is_dir(),
            is_file: meta.is_file(),
            id: (meta.dev(), meta.ino()),
            modified_ns: meta.mtime_nsec(),
        }
    }
}

/// A file that was opened.
pub struct Opened {
    /// The file, where it is a regular one.
    pub file: Rc<File>,
    /// What is known of it.
    pub facts: Facts,
}

struct Entry {
    file: Option<Rc<File>>,
    /// The facts, or the system's number of the error.
    found: Result<Facts, i32>,
    checked_ms: u64,
    used_ms: u64,
    uses: u64,
    turn: u64,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<Vec<u8>, Entry>,
    /// Paths by their last use, oldest first.
    turns: BTreeMap<u64, Vec<u8>>,
    turn: u64,
}

thread_local! {
    /// By directive. The count of who holds a directive tells when its configuration has gone.
    static CACHES: RefCell<Vec<(Arc<FileCacheSize>, Cache)>> = const { RefCell::new(Vec::new()) };
}

/// How a request's location wants files to be remembered.
struct Rules {
    size: Arc<FileCacheSize>,
    valid_ms: u64,
    min_uses: u64,
    errors: bool,
}

fn rules(req: &Request) -> Option<Rules> {
    let loc = req.location();
    let conf = &loc.filters;
    let size = conf.open_file_cache.clone()?;
    Some(Rules {
        size,
        valid_ms: conf.open_file_cache_valid,
        min_uses: conf.open_file_cache_min_uses,
        errors: conf.open_file_cache_errors,
    })
}

/// Opens a file, or takes the descriptor that is known.
pub fn open(req: &Request, path: &[u8]) -> io::Result<Opened> {
    let Some(rules) = rules(req) else { return open_anew(&bytes_to_path(path)) };
    with_cache(&rules.size, |cache| cache.open(&rules, path, clock::now_ms()))
}

/// What is known of a file, without opening it.
pub fn look(req: &Request, path: &[u8]) -> io::Result<Facts> {
    let Some(rules) = rules(req) else {
        return std::fs::metadata(bytes_to_path(path)).map(|meta| Facts::of(&meta));
    };
    with_cache(&rules.size, |cache| cache.look(&rules, path, clock::now_ms()))
}

fn open_anew(path: &Path) -> io::Result<Opened> {
    let file = File::open(path)?;
    let facts = Facts::of(&file.metadata()?);
    Ok(Opened { file: Rc::new(file), facts })
}

fn with_cache<R>(size: &Arc<FileCacheSize>, f: impl FnOnce(&mut Cache) -> R) -> R {
    CACHES.with_borrow_mut(|caches| {
        let known = caches.iter().position(|(known, _)| Arc::ptr_eq(known, size));
        let at = known.unwrap_or_else(|| {
            // A configuration that is gone takes its caches along.
            caches.retain(|(known, _)| Arc::strong_count(known) > 1);
            caches.push((size.clone(), Cache::default()));
            caches.len() - 1
        });
        f(&mut caches[at].1)
    })
}

impl Cache {
    fn open(&mut self, rules: &Rules, path: &[u8], now_ms: u64) -> io::Result<Opened> {
        self.expire(rules, now_ms);
        if let Some(entry) = self.used(path, now_ms) {
            let fresh = now_ms.saturating_sub(entry.checked_ms) < rules.valid_ms;
            match (&entry.found, &entry.file) {
                (Err(code), _) if fresh => return Err(io::Error::from_raw_os_error(*code)),
                (Ok(facts), Some(file)) if fresh => {
                    return Ok(Opened { file: file.clone(), facts: *facts });
                }
                (Ok(facts), Some(file)) => {
                    let now = std::fs::metadata(bytes_to_path(path)).map(|meta| Facts::of(&meta));
                    if now.is_ok_and(|now| now == *facts) {
                        let opened = Opened { file: file.clone(), facts: *facts };
                        entry.checked_ms = now_ms;
                        return Ok(opened);
                    }
                }
                _ => {}
            }
        }
        let opened = open_anew(&bytes_to_path(path));
        let (file, found) = match &opened {
            Ok(o) => (Some(o.file.clone()), Ok(o.facts)),
            Err(e) => (None, Err(e)),
        };
        self.learn(rules, path, file, found, now_ms);
        opened
    }

    fn look(&mut self, rules: &Rules, path: &[u8], now_ms: u64) -> io::Result<Facts> {
        self.expire(rules, now_ms);
        if let Some(entry) = self.used(path, now_ms)
            && now_ms.saturating_sub(entry.checked_ms) < rules.valid_ms
        {
            return entry.found.map_err(io::Error::from_raw_os_error);
        }
        let found = std::fs::metadata(bytes_to_path(path)).map(|meta| Facts::of(&meta));
        // A descriptor that is known stays only with the file that it belongs to.
        let file = self.entries.get(path).and_then(|entry| {
            let same = matches!((&entry.found, &found), (Ok(old), Ok(new)) if old == new);
            entry.file.clone().filter(|_| same)
        });
        match &found {
            Ok(facts) => self.learn(rules, path, file, Ok(*facts), now_ms),
            Err(e) => self.learn(rules, path, None, Err(e), now_ms),
        }
        found
    }

    /// The entry of a path, used once more.
    fn used(&mut self, path: &[u8], now_ms: u64) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(path)?;
        self.turns.remove(&entry.turn);
        self.turn += 1;
        entry.turn = self.turn;
        entry.used_ms = now_ms;
        entry.uses += 1;
        self.turns.insert(entry.turn, path.to_vec());
        Some(entry)
    }

    fn learn(
        &mut self,
        rules: &Rules,
        path: &[u8],
        file: Option<Rc<File>>,
        found: Result<Facts, &io::Error>,
        now_ms: u64,
    ) {
        let found = match found {
            Ok(facts) => Ok(facts),
            Err(e) if rules.errors => match e.raw_os_error() {
                Some(code) => Err(code),
                None => return self.forget(path),
            },
            Err(_) => return self.forget(path),
        };
        if !self.entries.contains_key(path) {
            while self.entries.len() >= rules.size.max {
                let Some((_, oldest)) = self.turns.pop_first() else { break };
                self.entries.remove(&oldest);
            }
            self.turn += 1;
            self.turns.insert(self.turn, path.to_vec());
            let entry =
                Entry { file: None, found, checked_ms: now_ms, used_ms: now_ms, uses: 1, turn: self.turn };
            self.entries.insert(path.to_vec(), entry);
        }
        let Some(entry) = self.entries.get_mut(path) else { return };
        entry.found = found;
        entry.checked_ms = now_ms;
        entry.file = file.filter(|_| entry.uses >= rules.min_uses);
    }

    fn forget(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.remove(path) {
            self.turns.remove(&entry.turn);
        }
    }

    /// Entries that nobody has used for long go.
    fn expire(&mut self, rules: &Rules, now_ms: u64) {
        while let Some((turn, path)) = self.turns.first_key_value() {
            let idle = self.entries.get(path).map_or(u64::MAX, |entry| now_ms.saturating_sub(entry.used_ms));
            if idle < rules.size.inactive_ms {
                return;
            }
            let turn = *turn;
            if let Some(path) = self.turns.remove(&turn) {
                self.entries.remove(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let dir = std::env::temp_dir().join(format!("moonlit-files-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
            Folder(dir)
        }

        fn file(&self, name: &str, text: &str) -> Vec<u8> {
            // Written beside and renamed: another file, whatever the clock of the file system says.
            let (path, beside) = (self.0.join(name), self.0.join("beside"));
            std::fs::write(&beside, text).expect("as above");
            std::fs::rename(&beside, &path).expect("as above");
            path.as_os_str().as_bytes().to_vec()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn rules(max: usize, min_uses: u64, errors: bool) -> Rules {
        let size = Arc::new(FileCacheSize { max, inactive_ms: 1000 });
        Rules { size, valid_ms: 100, min_uses, errors }
    }

    fn text(opened: io::Result<Opened>) -> String {
        let mut text = String::new();
        let opened = opened.expect("it is there");
        (&*opened.file).read_to_string(&mut text).expect("it can be read");
        use std::io::Seek;
        (&*opened.file).rewind().expect("it is a file");
        text
    }

    #[test]
    fn entry_is_believed_for_its_time_and_then_looked_at() {
        let dir = Folder::new("valid");
        let (mut cache, rules) = (Cache::default(), rules(10, 1, false));
        let path = dir.file("a", "one");
        assert_eq!(text(cache.open(&rules, &path, 1000)), "one");
        dir.file("a", "two");
        assert_eq!(text(cache.open(&rules, &path, 1099)), "one", "believed");
        assert_eq!(text(cache.open(&rules, &path, 1100)), "two", "looked at");
        let first = cache.open(&rules, &path, 1200).expect("there").file;
        let second = cache.open(&rules, &path, 1300).expect("there").file;
        assert!(Rc::ptr_eq(&first, &second), "the same file keeps its descriptor");
    }

    #[test]
    fn errors_are_kept_where_they_are_to_be() {
        let dir = Folder::new("errors");
        for (keep, then) in [(true, false), (false, true)] {
            let (mut cache, rules) = (Cache::default(), rules(10, 1, keep));
            let path = dir.0.join(format!("late{keep}")).as_os_str().as_bytes().to_vec();
            assert!(cache.open(&rules, &path, 1000).is_err());
            dir.file(&format!("late{keep}"), "x");
            assert_eq!(cache.open(&rules, &path, 1050).is_ok(), then);
            assert!(cache.open(&rules, &path, 1150).is_ok());
        }
    }

    #[test]
    fn few_uses_keep_no_descriptor_and_old_or_surplus_entries_go() {
        let dir = Folder::new("uses");
        let (mut cache, rules) = (Cache::default(), rules(2, 2, false));
        let paths: Vec<Vec<u8>> = ["a", "b", "c"].iter().map(|n| dir.file(n, n)).collect();
        cache.open(&rules, &paths[0], 1000).expect("there");
        assert!(cache.entries[&paths[0]].file.is_none());
        cache.open(&rules, &paths[0], 1001).expect("there");
        assert!(cache.entries[&paths[0]].file.is_some());
        cache.look(&rules, &paths[1], 1002).expect("there");
        cache.look(&rules, &paths[0], 1003).expect("there");
        cache.look(&rules, &paths[2], 1004).expect("there");
        assert!(!cache.entries.contains_key(&paths[1]), "the one used longest ago makes room");
        assert_eq!((cache.entries.len(), cache.turns.len()), (2, 2));
        cache.look(&rules, &paths[2], 2003).expect("there");
        assert!(!cache.entries.contains_key(&paths[0]) && cache.entries.len() == 1, "a second without use");
    }
}
