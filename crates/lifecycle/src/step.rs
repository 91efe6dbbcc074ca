//! Durable first, visible second, as a type.

use core::fmt;

/// What a machine decided: something to make durable, and what may be done and said once it is.
///
/// `T` cannot be reached before the barrier has been passed. A shell that fails to pass it drops the machine, not the process:
/// it reads the disk again, builds a new machine and goes on serving from memory.
#[must_use = "a dropped step loses a generation"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<B, T> {
    barrier: Option<B>,
    then: Held<T>,
}

/// What a step will do once its barrier is durable.
#[must_use = "held back until its barrier is durable"]
#[derive(Clone, PartialEq, Eq)]
pub struct Held<T>(T);

/// The shell's word that a barrier is durable. Shells make one after a commit has returned success, and nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Durable(());

impl Durable {
    /// Claims that what this step's barrier asked for has reached the medium.
    pub fn after_commit() -> Self {
        Self(())
    }
}

impl<B, T> Step<B, T> {
    /// A step that must not be seen before `barrier` is durable.
    pub fn durable_first(barrier: B, then: T) -> Self {
        Self { barrier: Some(barrier), then: Held(then) }
    }

    /// A step that needs nothing on disk.
    pub fn free(then: T) -> Self {
        Self { barrier: None, then: Held(then) }
    }

    /// What must be durable first.
    pub fn barrier(&self) -> Option<&B> {
        self.barrier.as_ref()
    }

    /// Passes the barrier with `commit` and hands out what may follow.
    ///
    /// # Errors
    /// Whatever `commit` fails with; what would have followed is dropped unseen.
    pub fn settle<E>(self, commit: impl FnOnce(B) -> Result<(), E>) -> Result<T, E> {
        if let Some(barrier) = self.barrier {
            commit(barrier)?;
        }
        Ok(self.then.0)
    }

    /// For shells that commit many steps at once: the barrier, and what to [`Held::release`] after the common commit.
    pub fn split(self) -> (Option<B>, Held<T>) {
        (self.barrier, self.then)
    }
}

impl<T> Held<T> {
    /// Hands out what was held back.
    pub fn release(self, _proof: Durable) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("held until durable")
    }
}
