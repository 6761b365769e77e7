//! The allocator inside a zone: pages of 4 KiB, small cells by size class, runs of pages for the rest.
//!
//! Works on the plain byte slice of a locked zone; a position is a `Cell`, the
//! byte offset divided by eight, so 32 bits reach 32 GiB. Every access indexes
//! the slice and is therefore range-checked. Knows nothing of what is stored.
//!
//! ```text
//! +0      header: magic, page count, first page's offset, free-run list, free pages, user words
//! +H      page records, PAGE_RECORD bytes each
//! +P      pages
//! page record: kind | count | next | prev | free list head | cells ever used
//! ```

/// Bytes of one page.
pub const PAGE_BYTES: usize = 4096;

const MAGIC: u32 = 0x4d53_4c42;
const HEADER_BYTES: usize = 256;
const PAGE_RECORD: usize = 24;
const NONE: u32 = u32::MAX;

const H_MAGIC: usize = 0;
const H_PAGES: usize = 4;
const H_FIRST: usize = 8;
const H_RUNS: usize = 12;
const H_FREE_PAGES: usize = 16;
const H_PARTIAL: usize = 32;
const H_USER: usize = 160;

/// Number of 32-bit words in the header that belong to the user of the slab.
pub const USER_WORDS: usize = (HEADER_BYTES - H_USER) / 4;

/// Cell sizes of the small classes, multiples of eight.
const CLASSES: [u16; 24] = [
    16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 816, 1024,
    1360, 2048,
];

const _: () = assert!(H_PARTIAL + CLASSES.len() * 4 <= H_USER);

const KIND_FREE_HEAD: u32 = 0;
const KIND_FREE_BODY: u32 = 1;
const KIND_LARGE_HEAD: u32 = 2;
const KIND_LARGE_BODY: u32 = 3;
const KIND_SMALL: u32 = 16;

/// A position in the zone: byte offset divided by eight. Zero means none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell(u32);

impl Cell {
    /// No position.
    pub const NONE: Cell = Cell(0);

    /// Whether this names a position.
    pub fn is_some(self) -> bool {
        self.0 != 0
    }

    /// The stored form.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// From the stored form.
    pub fn from_raw(v: u32) -> Cell {
        Cell(v)
    }

    /// Byte offset into the zone's slice.
    pub fn byte(self) -> usize {
        self.0 as usize * 8
    }
}

/// Reads a little-endian word at a byte offset.
pub fn get32(m: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(m[at..at + 4].try_into().expect("slice of four bytes"))
}

/// Writes a word at a byte offset.
pub fn put32(m: &mut [u8], at: usize, v: u32) {
    m[at..at + 4].copy_from_slice(&v.to_ne_bytes());
}

/// Reads a double word at a byte offset.
pub fn get64(m: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(m[at..at + 8].try_into().expect("slice of eight bytes"))
}

/// Writes a double word at a byte offset.
pub fn put64(m: &mut [u8], at: usize, v: u64) {
    m[at..at + 8].copy_from_slice(&v.to_ne_bytes());
}

/// The allocator's view of a zone.
pub struct Slab<'a> {
    /// The zone's bytes.
    pub mem: &'a mut [u8],
}

impl<'a> Slab<'a> {
    /// Wraps the bytes of a zone that `format` has prepared.
    pub fn new(mem: &'a mut [u8]) -> Slab<'a> {
        Slab { mem }
    }

    /// Whether the bytes hold a formatted zone.
    pub fn is_formatted(&self) -> bool {
        self.mem.len() >= HEADER_BYTES && get32(self.mem, H_MAGIC) == MAGIC
    }

    /// Makes the zone empty. What was in it is gone.
    pub fn format(&mut self) {
        let usable = self.mem.len().saturating_sub(HEADER_BYTES);
        let pages = usable / (PAGE_BYTES + PAGE_RECORD);
        let first = (HEADER_BYTES + pages * PAGE_RECORD).next_multiple_of(8);
        self.mem[..HEADER_BYTES.min(usable + HEADER_BYTES)].fill(0);
        let pages = if first + pages * PAGE_BYTES > self.mem.len() { pages.saturating_sub(1) } else { pages };
        put32(self.mem, H_MAGIC, MAGIC);
        put32(self.mem, H_PAGES, pages as u32);
        put32(self.mem, H_FIRST, first as u32);
        put32(self.mem, H_RUNS, NONE);
        put32(self.mem, H_FREE_PAGES, 0);
        for c in 0..CLASSES.len() {
            put32(self.mem, H_PARTIAL + c * 4, NONE);
        }
        if pages > 0 {
            self.add_run(0, pages as u32);
        }
    }

    /// One of the user's header words.
    pub fn user(&self, i: usize) -> u32 {
        assert!(i < USER_WORDS);
        get32(self.mem, H_USER + i * 4)
    }

    /// Sets one of the user's header words.
    pub fn set_user(&mut self, i: usize, v: u32) {
        assert!(i < USER_WORDS);
        put32(self.mem, H_USER + i * 4, v);
    }

    /// Bytes in wholly free pages, what `free_space` reports.
    pub fn free_page_bytes(&self) -> usize {
        get32(self.mem, H_FREE_PAGES) as usize * PAGE_BYTES
    }

    fn rec(&self, page: u32, field: usize) -> u32 {
        get32(self.mem, HEADER_BYTES + page as usize * PAGE_RECORD + field * 4)
    }

    fn set_rec(&mut self, page: u32, field: usize, v: u32) {
        put32(self.mem, HEADER_BYTES + page as usize * PAGE_RECORD + field * 4, v);
    }

    fn pages(&self) -> u32 {
        get32(self.mem, H_PAGES)
    }

    fn page_byte(&self, page: u32) -> usize {
        get32(self.mem, H_FIRST) as usize + page as usize * PAGE_BYTES
    }

    /// Allocates `bytes`; `None` when the zone has no room. The content is whatever was there.
    pub fn alloc(&mut self, bytes: usize) -> Option<Cell> {
        match CLASSES.iter().position(|&c| bytes <= c as usize) {
            Some(class) => self.alloc_small(class),
            None => {
                let run = bytes.div_ceil(PAGE_BYTES);
                let page = self.take_run(u32::try_from(run).ok()?)?;
                self.set_rec(page, KIND, KIND_LARGE_HEAD);
                self.set_rec(page, COUNT, run as u32);
                for p in page + 1..page + run as u32 {
                    self.set_rec(p, KIND, KIND_LARGE_BODY);
                }
                Some(Cell((self.page_byte(page) / 8) as u32))
            }
        }
    }

    /// Bytes that a block of the requested size really offers.
    pub fn usable(&self, cell: Cell) -> usize {
        let page = self.page_of(cell);
        match self.rec(page, KIND) {
            KIND_LARGE_HEAD => self.rec(page, COUNT) as usize * PAGE_BYTES,
            k => CLASSES[(k - KIND_SMALL) as usize] as usize,
        }
    }

    /// Frees a block that `alloc` returned.
    pub fn free(&mut self, cell: Cell) {
        let page = self.page_of(cell);
        let kind = self.rec(page, KIND);
        if kind == KIND_LARGE_HEAD {
            let run = self.rec(page, COUNT);
            self.add_run(page, run);
            return;
        }
        let class = (kind - KIND_SMALL) as usize;
        let per_page = (PAGE_BYTES / CLASSES[class] as usize) as u32;
        let live = self.rec(page, COUNT) - 1;
        self.set_rec(page, COUNT, live);
        if live == 0 {
            if per_page > 1 {
                self.unlink_partial(class, page);
            }
            self.add_run(page, 1);
            return;
        }
        let head = self.rec(page, FREE);
        put32(self.mem, cell.byte(), head);
        self.set_rec(page, FREE, cell.0);
        if live + 1 == per_page {
            self.link_partial(class, page);
        }
    }

    fn page_of(&self, cell: Cell) -> u32 {
        let first = get32(self.mem, H_FIRST) as usize;
        let page = ((cell.byte() - first) / PAGE_BYTES) as u32;
        assert!(page < self.pages(), "cell outside the zone");
        page
    }

    fn alloc_small(&mut self, class: usize) -> Option<Cell> {
        let size = CLASSES[class] as usize;
        let per_page = (PAGE_BYTES / size) as u32;
        let mut page = get32(self.mem, H_PARTIAL + class * 4);
        if page == NONE {
            page = self.take_run(1)?;
            self.set_rec(page, KIND, KIND_SMALL + class as u32);
            self.set_rec(page, COUNT, 0);
            self.set_rec(page, FREE, 0);
            self.set_rec(page, USED, 0);
            self.link_partial(class, page);
        }
        let head = self.rec(page, FREE);
        let cell = if head != 0 {
            let next = get32(self.mem, Cell(head).byte());
            self.set_rec(page, FREE, next);
            Cell(head)
        } else {
            let used = self.rec(page, USED);
            self.set_rec(page, USED, used + 1);
            Cell(((self.page_byte(page) + used as usize * size) / 8) as u32)
        };
        let live = self.rec(page, COUNT) + 1;
        self.set_rec(page, COUNT, live);
        if live == per_page {
            self.unlink_partial(class, page);
        }
        Some(cell)
    }

    fn link_partial(&mut self, class: usize, page: u32) {
        let at = H_PARTIAL + class * 4;
        let head = get32(self.mem, at);
        self.set_rec(page, NEXT, head);
        self.set_rec(page, PREV, NONE);
        if head != NONE {
            self.set_rec(head, PREV, page);
        }
        put32(self.mem, at, page);
    }

    fn unlink_partial(&mut self, class: usize, page: u32) {
        self.unlink(H_PARTIAL + class * 4, page);
    }

    fn unlink(&mut self, head_at: usize, page: u32) {
        let (next, prev) = (self.rec(page, NEXT), self.rec(page, PREV));
        if prev == NONE {
            put32(self.mem, head_at, next);
        } else {
            self.set_rec(prev, NEXT, next);
        }
        if next != NONE {
            self.set_rec(next, PREV, prev);
        }
    }

    /// Puts a run of pages into the free list, joined with its free neighbours.
    fn add_run(&mut self, mut page: u32, mut run: u32) {
        let total = get32(self.mem, H_FREE_PAGES) + run;
        put32(self.mem, H_FREE_PAGES, total);
        let after = page + run;
        if after < self.pages() && self.rec(after, KIND) == KIND_FREE_HEAD && self.rec(after, COUNT) != 0 {
            run += self.rec(after, COUNT);
            self.unlink(H_RUNS, after);
        }
        if page > 0 {
            let before = page - 1;
            let start = match self.rec(before, KIND) {
                KIND_FREE_HEAD if self.rec(before, COUNT) == 1 => Some(before),
                KIND_FREE_BODY => Some(self.rec(before, COUNT)),
                _ => None,
            };
            if let Some(start) = start {
                run += page - start;
                self.unlink(H_RUNS, start);
                page = start;
            }
        }
        self.set_rec(page, KIND, KIND_FREE_HEAD);
        self.set_rec(page, COUNT, run);
        if run > 1 {
            // Only the last page of a run is ever asked for the run's start.
            self.set_rec(page + run - 1, KIND, KIND_FREE_BODY);
            self.set_rec(page + run - 1, COUNT, page);
        }
        let head = get32(self.mem, H_RUNS);
        self.set_rec(page, NEXT, head);
        self.set_rec(page, PREV, NONE);
        if head != NONE {
            self.set_rec(head, PREV, page);
        }
        put32(self.mem, H_RUNS, page);
    }

    /// First fit over the free runs.
    fn take_run(&mut self, want: u32) -> Option<u32> {
        let mut page = get32(self.mem, H_RUNS);
        let mut steps = 0;
        while page != NONE {
            let run = self.rec(page, COUNT);
            if run >= want {
                self.unlink(H_RUNS, page);
                let total = get32(self.mem, H_FREE_PAGES) - run;
                put32(self.mem, H_FREE_PAGES, total);
                // The pages must not look free to a neighbour while the rest is put back.
                self.set_rec(page + want - 1, KIND, KIND_LARGE_BODY);
                self.set_rec(page, KIND, KIND_LARGE_BODY);
                if run > want {
                    self.add_run_alone(page + want, run - want);
                }
                return Some(page);
            }
            page = self.rec(page, NEXT);
            steps += 1;
            assert!(steps <= self.pages(), "free run list is a ring");
        }
        None
    }

    fn add_run_alone(&mut self, page: u32, run: u32) {
        // The rest of a run has no free neighbour: the run itself was joined as far as it went.
        self.set_rec(page, KIND, KIND_FREE_HEAD);
        self.add_run(page, run);
    }
}

const KIND: usize = 0;
const COUNT: usize = 1;
const NEXT: usize = 2;
const PREV: usize = 3;
const FREE: usize = 4;
const USED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(bytes: usize) -> Vec<u8> {
        let mut v = vec![0; bytes];
        Slab::new(&mut v).format();
        v
    }

    #[test]
    fn freeing_everything_gives_every_page_back() {
        let mut mem = zone(256 * 1024);
        let mut s = Slab::new(&mut mem);
        let free = s.free_page_bytes();
        let mut seed = 1u32;
        let mut live: Vec<(Cell, usize, u8)> = Vec::new();
        for round in 0..20_000u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = match seed >> 28 {
                0 => 9000,
                1..3 => 2500,
                _ => (seed >> 8) as usize % 700 + 1,
            };
            let full = if let Some(c) = s.alloc(size) {
                let tag = round as u8;
                assert!(s.usable(c) >= size);
                s.mem[c.byte()..c.byte() + size].fill(tag);
                live.push((c, size, tag));
                false
            } else {
                true
            };
            if full || seed & 3 == 0 {
                let i = (seed >> 3) as usize % live.len().max(1);
                if !live.is_empty() {
                    let (c, size, tag) = live.swap_remove(i);
                    assert!(s.mem[c.byte()..c.byte() + size].iter().all(|&b| b == tag), "blocks overlap");
                    s.free(c);
                }
            }
        }
        for (c, _, _) in live {
            s.free(c);
        }
        assert_eq!(s.free_page_bytes(), free);
        assert!(s.alloc(free).is_some(), "all pages must have joined into one run");
    }

    #[test]
    fn zone_smaller_than_a_page_allocates_nothing() {
        let mut mem = zone(1024);
        assert_eq!(Slab::new(&mut mem).alloc(8), None);
    }
}
