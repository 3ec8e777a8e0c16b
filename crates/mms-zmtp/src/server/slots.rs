//! The bound on connections, and who gives way at it.
//!
//! A peer that dawdles in its handshake must not keep others out: when all slots are taken, the one that has been in its handshake for
//! longest gives way to a newcomer. Peers that have finished their handshake keep their slots.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Time that a handshake has in any case; an honest one takes milliseconds.
const GRACE: Duration = Duration::from_millis(500);
/// How long a newcomer waits for a slot that is being given up.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Slots {
    limit: usize,
    free: Semaphore,
    next: AtomicU64,
    /// The peers in their handshake, the oldest first.
    shaking: Mutex<BTreeMap<u64, (Instant, CancellationToken)>>,
}

/// One connection's place; given back when dropped.
pub(super) struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
    slots: &'a Slots,
    number: u64,
    /// Cancelled when this peer, still in its handshake, has to give way.
    pub(super) give_way: CancellationToken,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, free: Semaphore::new(limit), next: AtomicU64::new(0), shaking: Mutex::default() }
    }

    pub(super) fn taken(&self) -> usize {
        self.limit - self.free.available_permits()
    }

    /// A slot for a newcomer, when there is one, or when somebody gives way.
    pub(super) async fn take(&self) -> Option<Slot<'_>> {
        let permit = match self.free.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                self.oldest_dawdler()?.cancel();
                timeout(PATIENCE, self.free.acquire()).await.ok()?.ok()?
            }
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let give_way = CancellationToken::new();
        self.shaking().insert(number, (Instant::now(), give_way.clone()));
        Some(Slot { _permit: permit, slots: self, number, give_way })
    }

    fn oldest_dawdler(&self) -> Option<CancellationToken> {
        let mut shaking = self.shaking();
        let oldest = shaking.first_entry()?;
        (oldest.get().0.elapsed() >= GRACE).then(|| oldest.remove().1)
    }

    fn shaking(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, CancellationToken)>> {
        self.shaking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot<'_> {
    /// The handshake is done: this peer stays.
    pub(super) fn settle(&self) {
        self.slots.shaking().remove(&self.number);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}
