//! The process ids of a configuration's workers, where each of them can see all.

use std::io;

use super::shm::Region;

/// One slot per worker; 0 while nobody is there.
pub struct PidTable {
    region: Region,
    count: usize,
}

const SLOT_BYTES: usize = 4;

impl PidTable {
    /// A table for `count` workers. To be made before they are forked.
    pub fn new(count: usize) -> io::Result<PidTable> {
        Ok(PidTable { region: Region::new(count * SLOT_BYTES)?, count })
    }

    /// Worker `id` is this process from now on. Ids beyond the table are left out.
    pub fn set(&self, id: usize, pid: u32) {
        if id < self.count {
            let mut bytes = self.region.lock();
            bytes[id * SLOT_BYTES..][..SLOT_BYTES].copy_from_slice(&pid.to_ne_bytes());
        }
    }

    /// The processes that are there, in order of their workers.
    pub fn all(&self) -> Vec<u32> {
        let bytes = self.region.lock();
        bytes[..self.count * SLOT_BYTES]
            .chunks_exact(SLOT_BYTES)
            .map(|c| u32::from_ne_bytes([c[0], c[1], c[2], c[3]]))
            .filter(|pid| *pid != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::PidTable;

    #[test]
    fn slots_hold_the_latest_process() {
        let t = PidTable::new(3).expect("mapped");
        t.set(2, 70);
        t.set(0, 50);
        t.set(2, 71);
        t.set(9, 1);
        assert_eq!(t.all(), [50, 71]);
    }
}
