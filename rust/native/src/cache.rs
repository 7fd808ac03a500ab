//! `backtestr._native`: decoded row groups in memory, within a budget of bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;
use pyo3::prelude::*;

/// More than a cache's clock has.
const LONGEST_S: f64 = 1e9;

/// A row group: the id of its file, and its number there.
type Key = (String, usize);

#[derive(Clone)]
struct Entry {
    rows: Arc<Py<PyAny>>,
    bytes: u32,
}

/// Rows of row groups within a budget of bytes; those asked for often stay, whatever is read once.
#[pyclass(frozen, module = "backtestr._native")]
pub(crate) struct GroupCache {
    groups: Cache<Key, Entry>,
    max_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
}

#[pymethods]
impl GroupCache {
    #[new]
    #[pyo3(signature = (max_bytes, *, ttl_s))]
    fn new(max_bytes: u64, ttl_s: f64) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&evictions);
        let groups = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Key, entry: &Entry| entry.bytes)
            .time_to_idle(Duration::from_secs_f64(ttl_s.clamp(0.0, LONGEST_S)))
            .eviction_listener(move |_, _, cause| {
                if matches!(cause, RemovalCause::Size | RemovalCause::Expired) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        Self { groups, max_bytes, hits: 0.into(), misses: 0.into(), evictions }
    }

    /// What was put for each group of a file from `first` to before `stop`, or None; `counted` as a request or not.
    #[pyo3(signature = (file_id, first, stop, *, counted = true))]
    fn get(
        &self,
        py: Python<'_>,
        file_id: &str,
        first: usize,
        stop: usize,
        counted: bool,
    ) -> Vec<Option<Py<PyAny>>> {
        let mut key = (file_id.to_owned(), first);
        (first..stop)
            .map(|group| {
                key.1 = group;
                let found = self.groups.get(&key);
                let counter = if found.is_some() { &self.hits } else { &self.misses };
                counter.fetch_add(u64::from(counted), Ordering::Relaxed);
                found.map(|entry| entry.rows.clone_ref(py))
            })
            .collect()
    }

    /// Whether each group of a file from `first` to before `stop` is there; counts as no demand for it.
    fn holds(&self, file_id: &str, first: usize, stop: usize) -> Vec<bool> {
        let mut key = (file_id.to_owned(), first);
        (first..stop)
            .map(|group| {
                key.1 = group;
                self.groups.contains_key(&key)
            })
            .collect()
    }

    /// Put a group's rows, which take so many bytes.
    fn put(&self, file_id: &str, group: usize, rows: Py<PyAny>, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.groups.insert((file_id.to_owned(), group), Entry { rows: Arc::new(rows), bytes });
    }

    /// Evict until what is left fits into the budget.
    fn trim(&self) {
        self.groups.run_pending_tasks();
    }

    /// Forget the groups of a file from `first` to before `stop`.
    fn forget(&self, file_id: &str, first: usize, stop: usize) {
        (first..stop).for_each(|group| self.groups.invalidate(&(file_id.to_owned(), group)));
        self.groups.run_pending_tasks();
    }

    /// Forget all groups.
    fn clear(&self) {
        self.groups.invalidate_all();
        self.groups.run_pending_tasks();
    }

    /// Hits, misses, evictions, groups held, their bytes, and the most bytes allowed.
    fn stats(&self) -> (u64, u64, u64, u64, u64, u64) {
        self.groups.run_pending_tasks();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let held = (self.groups.entry_count(), self.groups.weighted_size());
        (count(&self.hits), count(&self.misses), count(&self.evictions), held.0, held.1, self.max_bytes)
    }
}
