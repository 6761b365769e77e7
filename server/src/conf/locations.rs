//! Which location serves a URI: nginx's algorithm over a sorted table.
//!
//! Order: exact match; the longest prefix is remembered; if that one is `^~`
//! it wins; expressions of the innermost matched location first, then
//! outwards, in the order of the file; else the remembered prefix.

use std::cmp::Ordering;
use std::sync::Arc;

use super::hash::NameMap;
use super::model::{Location, LocationKind};
use crate::regex::MatchData;

/// The locations of one level.
#[derive(Debug, Default)]
pub struct Locations {
    exact: NameMap<Arc<Location>>,
    /// Sorted by path; each with the index of the longest other entry that is its prefix.
    prefixes: Vec<(Arc<Location>, Option<usize>)>,
    patterns: Vec<Arc<Location>>,
}

/// What was found for a URI.
#[derive(Clone, Debug)]
pub struct Found {
    /// The location.
    pub location: Arc<Location>,
    /// Whether an expression chose it: its captures are in the match data handed in.
    pub by_pattern: bool,
}

impl Locations {
    /// A table of these locations. Named ones and other levels must not be among them.
    pub fn new(locations: Vec<Arc<Location>>) -> Locations {
        let mut table = Locations::default();
        let mut prefixes = Vec::new();
        for location in locations {
            match location.kind {
                LocationKind::Exact => {
                    table.exact.insert(location.name.clone(), location);
                }
                LocationKind::Regex(_) => table.patterns.push(location),
                _ => prefixes.push(location),
            }
        }
        prefixes.sort_by(|a, b| a.name.cmp(&b.name));
        for (at, location) in prefixes.iter().enumerate() {
            let parent = prefixes[..at].iter().rposition(|other| location.name.starts_with(&other.name));
            table.prefixes.push((location.clone(), parent));
        }
        table
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty() && self.patterns.is_empty()
    }

    /// Every location of this level, exact ones and prefixes before expressions.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Location>> {
        self.exact.values().chain(self.prefixes.iter().map(|(location, _)| location)).chain(&self.patterns)
    }

    /// The location for a decoded, normalised URI; `None` leaves the level itself in force.
    pub fn find(&self, uri: &[u8], data: &mut MatchData) -> Option<Found> {
        self.search(uri, data).map(|(found, _)| found)
    }

    /// The location that is `uri` with a slash appended, if there is one. nginx redirects there
    /// when that location passes requests on and nothing better matches.
    pub fn find_with_slash(&self, uri: &[u8]) -> Option<&Arc<Location>> {
        if !self.exact.is_empty()
            && let Some(location) = self.exact.get(&[uri, b"/"].concat()[..])
        {
            return Some(location);
        }
        let compare = |name: &[u8]| match name.split_at_checked(uri.len()) {
            // Shorter than the path: at best the beginning of it.
            None => name.cmp(&uri[..name.len()]).then(Ordering::Less),
            Some((same, rest)) => same.cmp(uri).then_with(|| rest.cmp(b"/")),
        };
        let at = self.prefixes.binary_search_by(|(location, _)| compare(&location.name)).ok()?;
        Some(&self.prefixes[at].0)
    }

    /// The found location, and whether the search for expressions is over.
    fn search(&self, uri: &[u8], data: &mut MatchData) -> Option<(Found, bool)> {
        if let Some(location) = self.exact.get(uri) {
            return Some((Found { location: location.clone(), by_pattern: false }, true));
        }
        let mut best = None;
        if let Some(prefix) = self.longest_prefix(uri) {
            let inner = prefix.locations.search(uri, data);
            if let Some((found, true)) = inner {
                return Some((found, true));
            }
            let no_regex = matches!(prefix.kind, LocationKind::PrefixNoRegex);
            let found =
                inner.map_or(Found { location: prefix.clone(), by_pattern: false }, |(found, _)| found);
            if no_regex {
                // Only the expressions of this level are skipped; outer levels decide for themselves.
                return Some((found, false));
            }
            best = Some((found, false));
        }
        for location in &self.patterns {
            let LocationKind::Regex(pattern) = &location.kind else { continue };
            if pattern.regex.find_at(uri, 0, data) != Ok(true) {
                continue;
            }
            // A location nested in an expression is looked for too; without one the captures stay ours.
            if !location.locations.is_empty() {
                if let Some((found, _)) = location.locations.search(uri, data) {
                    return Some((found, true));
                }
                // The nested search may have overwritten the captures.
                let _ = pattern.regex.find_at(uri, 0, data);
            }
            return Some((Found { location: location.clone(), by_pattern: true }, true));
        }
        best
    }

    fn longest_prefix(&self, uri: &[u8]) -> Option<&Arc<Location>> {
        let after = self.prefixes.partition_point(|(location, _)| *location.name <= *uri);
        let mut at = after.checked_sub(1)?;
        loop {
            let (location, parent) = &self.prefixes[at];
            if uri.starts_with(&location.name) {
                return Some(location);
            }
            at = (*parent)?;
        }
    }
}
