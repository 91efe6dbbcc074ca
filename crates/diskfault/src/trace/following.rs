//! The loop of the thread that traces.

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Shared;

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn seize(_: Pid) -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn follow(_: Pid, _: &Shared) -> i32 {
    0xff00
}

#[cfg(target_arch = "x86_64")]
pub(super) use known::{follow, seize};

#[cfg(target_arch = "x86_64")]
mod known {
    use std::collections::HashMap;
    use std::fs::{self, File};
    use std::sync::PoisonError;
    use std::sync::atomic::Ordering;

    use nix::libc;
    use nix::sys::ptrace::{self, Event, Options};
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

    use super::{Errno, Pid, Shared};
    use crate::trace::calls::{At, concerning};
    use crate::trace::{Call, Counted, Fault, Kind};

    /// `PTRACE_EVENT_STOP`: a thread that was just seized.
    const NEW_THREAD: i32 = 128;

    /// What is still to be done when a call returns.
    #[derive(Clone, Copy)]
    enum Answer {
        AsItIs,
        Is(i64),
        Killed,
    }

    /// One thread.
    #[derive(Default)]
    struct Thread {
        /// Set while it is in a call.
        answer: Option<Answer>,
    }

    /// One process.
    struct Process {
        memory: Option<File>,
    }

    struct Following<'a> {
        leader: Pid,
        shared: &'a Shared,
        threads: HashMap<Pid, Thread>,
        /// By thread: to which process it belongs.
        processes: HashMap<Pid, Process>,
        owners: HashMap<Pid, Pid>,
        has_begun: bool,
    }

    pub(in crate::trace) fn seize(pid: Pid) -> Result<(), Errno> {
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(pid, options)
    }

    /// Until every thread has ended. Gives the leader's status as `wait` has it.
    pub(in crate::trace) fn follow(leader: Pid, shared: &Shared) -> i32 {
        let mut following = Following {
            leader,
            shared,
            threads: HashMap::new(),
            processes: HashMap::new(),
            owners: HashMap::new(),
            has_begun: false,
        };
        let mut status = 0xff00;
        // Only what this very thread traces; others may be at work beside it.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(Pid::from_raw(-1), Some(flags)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    following.forget(pid);
                    if pid == leader {
                        status = (code & 0xff) << 8;
                    }
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    following.forget(pid);
                    if pid == leader {
                        status = signal as i32;
                    }
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => following.syscall(pid),
                Ok(WaitStatus::PtraceEvent(pid, signal, event)) => following.event(pid, signal, event),
                Ok(WaitStatus::Stopped(pid, signal)) => following.resume(pid, Some(signal)),
                Ok(WaitStatus::Continued(_) | WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Err(_) => return status,
            }
        }
    }

    impl Following<'_> {
        fn forget(&mut self, pid: Pid) {
            self.threads.remove(&pid);
            self.processes.remove(&pid);
            self.owners.remove(&pid);
        }

        fn resume(&self, pid: Pid, signal: Option<Signal>) {
            // It may have been killed meanwhile, which the next wait tells.
            let _ = if self.has_begun { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
        }

        fn event(&mut self, pid: Pid, _: Signal, event: i32) {
            if event == Event::PTRACE_EVENT_EXEC as i32 {
                // The shell has become the program; what follows is the return from `execve`.
                self.has_begun = true;
                self.threads.insert(pid, Thread { answer: Some(Answer::AsItIs) });
                self.processes.remove(&pid);
            } else if event == NEW_THREAD {
                self.threads.entry(pid).or_default();
            }
            self.resume(pid, None);
        }

        fn syscall(&mut self, pid: Pid) {
            let Ok(mut registers) = ptrace::getregs(pid) else { return self.resume(pid, None) };
            let thread = self.threads.entry(pid).or_default();
            match thread.answer.take() {
                Some(answer) => match answer {
                    Answer::AsItIs => {}
                    Answer::Is(value) => {
                        registers.rax = value as u64;
                        let _ = ptrace::setregs(pid, registers);
                    }
                    Answer::Killed => self.kill(),
                },
                // The kernel says "no such call" until it has looked. A thread that was just made returns from a call that it never made.
                None if registers.rax as i64 != -i64::from(libc::ENOSYS) => {}
                None => {
                    let answer = self.enter(pid, &mut registers);
                    self.threads.entry(pid).or_default().answer = Some(answer);
                }
            }
            self.resume(pid, None);
        }

        fn kill(&self) {
            let _ = kill(self.leader, Signal::SIGKILL);
        }

        /// Before a call.
        fn enter(&mut self, pid: Pid, registers: &mut libc::user_regs_struct) -> Answer {
            if !self.shared.is_armed.load(Ordering::SeqCst) {
                return Answer::AsItIs;
            }
            let owner = *self.owners.entry(pid).or_insert_with(|| process_of(pid));
            let process = self
                .processes
                .entry(owner)
                .or_insert_with(|| Process { memory: File::open(format!("/proc/{owner}/mem")).ok() });
            let at = At {
                process: owner,
                memory: process.memory.as_ref(),
                number: registers.orig_rax as i64,
                arguments: [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9],
            };
            let Some((name, kind, path)) = concerning(&at, &self.shared.folders) else { return Answer::AsItIs };
            if self.shared.counted == Counted::Changes && !kind.is_change() {
                return Answer::AsItIs;
            }
            let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let number = seen.calls.len() + 1;
            let call = Call { number, name, kind, path };
            seen.calls.push(call.clone());
            let Some(harm) = harm(&seen.fault, &call) else { return Answer::AsItIs };
            seen.fired += 1;
            seen.first.get_or_insert(call);
            drop(seen);
            self.shared.changed.notify_all();
            let answer = match harm {
                Harm::KillNow => {
                    registers.orig_rax = u64::MAX;
                    self.kill();
                    Answer::AsItIs
                }
                Harm::KillThen => return Answer::Killed,
                Harm::Skip(value) => {
                    registers.orig_rax = u64::MAX;
                    Answer::Is(value)
                }
                Harm::SkipAll => {
                    registers.orig_rax = u64::MAX;
                    Answer::Is(i64::try_from(registers.rdx).unwrap_or(i64::MAX))
                }
                Harm::Lie(value) => return Answer::Is(value),
                Harm::Half => {
                    registers.rdx = (registers.rdx / 2).max(1);
                    Answer::AsItIs
                }
            };
            let _ = ptrace::setregs(pid, *registers);
            answer
        }
    }

    /// What is done to one call.
    enum Harm {
        KillNow,
        KillThen,
        /// Not executed, answered with this.
        Skip(i64),
        /// Not executed, answered with the length that was asked for.
        SkipAll,
        /// Executed, answered with this.
        Lie(i64),
        Half,
    }

    fn harm(fault: &Fault, call: &Call) -> Option<Harm> {
        let is_it = |at: &usize| *at == call.number;
        let failed = |errno: &Errno| -i64::from(*errno as i32);
        match fault {
            Fault::Nothing => None,
            Fault::KillBefore(at) => is_it(at).then_some(Harm::KillNow),
            Fault::KillAfter(at) => is_it(at).then_some(Harm::KillThen),
            // The kernel closes whatever it answers.
            Fault::Fail { at, errno } if call.kind == Kind::Close => is_it(at).then(|| Harm::Lie(failed(errno))),
            Fault::Fail { at, errno } => is_it(at).then(|| Harm::Skip(failed(errno))),
            Fault::FailFrom { at, errno } => {
                let is_struck =
                    is_it(at) || call.number > *at && call.kind != Kind::Close && call.kind.errnos().contains(errno);
                let harm = if call.kind == Kind::Close { Harm::Lie } else { Harm::Skip };
                is_struck.then(|| harm(failed(errno)))
            }
            Fault::FailAfter { at, errno } => is_it(at).then(|| Harm::Lie(failed(errno))),
            Fault::Short(at) => {
                (is_it(at) && matches!(call.name, "read" | "write" | "pread64" | "pwrite64")).then_some(Harm::Half)
            }
            Fault::WithoutSyncs => (call.kind == Kind::Sync).then_some(Harm::Skip(0)),
            Fault::WithoutFolderSyncs => (call.kind == Kind::Sync && call.path.is_dir()).then_some(Harm::Skip(0)),
            Fault::WithoutRenames => call.name.starts_with("rename").then_some(Harm::Skip(0)),
            Fault::WithoutWrites => matches!(call.name, "write" | "pwrite64").then_some(Harm::SkipAll),
            Fault::AbsentInsteadOf(at) => is_it(at).then(|| Harm::Skip(failed(&Errno::ENOENT))),
        }
    }

    /// The process to which a thread belongs.
    fn process_of(thread: Pid) -> Pid {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        let id = status.lines().find_map(|line| line.strip_prefix("Tgid:")).and_then(|id| id.trim().parse().ok());
        id.map_or(thread, Pid::from_raw)
    }
}
