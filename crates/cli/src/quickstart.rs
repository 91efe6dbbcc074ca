//! `exuvia quickstart`: a controller and routers as real processes, renewing while a load runs and, if asked for, while faults
//! strike; then a verdict on whether anything was lost.
//!
//! ```text
//!  load ──mTLS──▶ health endpoint of each router process ──TLS──▶ proxy ──▶ controller process
//!                        │ admin socket                                        │ REST
//!                        ▼                                                     ▼
//!                  watch: phases, proofs                           watch::lockout: what is admitted
//!                        │                                                     │  + what is whole on the routers' disks
//!                        └──────────▶ faults aim by phases ◀───────────────────┘
//!                                            │
//!                                     tally ─┴─▶ table while it runs, summary at the end
//! ```
//!
//! Start at [`run`]; what is counted and what is excused is [`tally`]'s business alone.

mod child;
mod controller_api;
mod dice;
mod faults;
mod home;
mod load;
mod processes;
mod proxy;
mod screen;
mod stage;
mod summary;
mod table;
mod tally;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::stop::{Stop, StopSignal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

pub use child::tie_to_parent;
use dice::Dice;
use faults::plan::Plan;
use home::{Home, HomeError};
use processes::Nursery;
use screen::Screen;
use stage::{Cast, StageError};
use summary::{Run, Summary};
use table::Row;

/// Between two drawings of the table.
const DRAW: Duration = Duration::from_millis(500);
/// Between two plain lines about a router, where there is no terminal.
const TELL: Duration = Duration::from_secs(5);
/// How long a router that is restarted after the faults may take until it is admitted.
const ADMITTED_WITHIN: Duration = Duration::from_secs(10);
/// Kept of a run with faults for that restart.
const LAST_ACT: Duration = Duration::from_secs(3);
/// How long a process may take to end when asked to.
const FAREWELL: Duration = Duration::from_secs(8);

/// What was asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct QuickstartArgs {
    /// How many routers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    routers: u16,

    /// Life of the certificates, such as `60s` or `5m`; at least 10 s
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = leaf_life)]
    leaf_life: Duration,

    /// Make life hard: kill processes, lose, delay and cut answers, make disks full and unwritable
    #[arg(long)]
    faults: bool,

    /// Seed of the faults, to see the same plan again
    #[arg(long, value_name = "N", requires = "faults")]
    seed: Option<u64>,

    /// Keep everything in this folder, which must be empty or not exist
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    /// End by itself after this time, such as `90s`; at least 5 s. Until Ctrl-C if left out
    #[arg(long = "for", value_name = "TIME", value_parser = run_for)]
    run_for: Option<Duration>,

    /// Print one JSON object on standard output at the end, and everything else on standard error
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).map_err(|error| error.to_string())
}

fn run_for(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time >= Duration::from_secs(5) { Ok(time) } else { Err("it must be at least 5 s".to_owned()) }
}

fn leaf_life(text: &str) -> Result<Duration, String> {
    let life = duration(text)?;
    let sensible = Duration::from_secs(10)..=Duration::from_secs(365 * 86_400);
    if sensible.contains(&life) { Ok(life) } else { Err("it must be between 10 s and 365 days".to_owned()) }
}

/// Why there was nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// No home.
    #[error(transparent)]
    Home(HomeFailure),
    /// The processes did not come up.
    #[error(transparent)]
    Stage(StageFailure),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

/// See its text.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HomeFailure(#[from] HomeError);

/// See its text.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StageFailure(#[from] StageError);

impl From<HomeError> for QuickstartError {
    fn from(error: HomeError) -> Self {
        Self::Home(HomeFailure(error))
    }
}

impl From<StageError> for QuickstartError {
    fn from(error: StageError) -> Self {
        Self::Stage(StageFailure(error))
    }
}

impl QuickstartError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Home(error) => error.0.hint(),
            Self::Stage(error) => error.0.hint(),
            Self::Signals(_) => "this is a defect of the system; please report it",
        }
    }
}

/// Runs it. `began` is when the process began. The answer is whether nothing was lost.
///
/// # Errors
/// When it cannot begin.
pub async fn run(args: QuickstartArgs, began: Instant) -> Result<bool, QuickstartError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(QuickstartError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(QuickstartError::Signals)?;
    let screen = Arc::new(Screen::new(began, args.json));
    let mut home = Home::open(args.home.as_deref())?;
    let (asking, asked) = Stop::new();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asking.stop();
    });
    let is_json = args.json;
    let nursery = Nursery::open().map_err(stage::machine("start processes"))?;
    let played = play(&args, &home, &nursery, &screen, asked).await;
    // Whatever is left after a failure: nobody may write into the home any more.
    nursery.kill_all().await;
    let is_ok = match &played {
        Ok(summary) => {
            for line in summary.lines() {
                screen.say(&line);
            }
            summary.is_ok
        }
        Err(_) => false,
    };
    let is_of_no_interest =
        is_ok || matches!(&played, Err(QuickstartError::Stage(StageFailure(StageError::Interrupted))));
    if home.is_temporary() && is_of_no_interest {
        screen.say(&format!("`{}` is removed; `--home DIR` keeps everything", home.path().display()));
    } else {
        home.keep();
        let path = home.path().display();
        screen.say(&format!(
            "kept: `{path}` with the PKI and register in `controller`, each router's identity in its folder, and `logs`"
        ));
    }
    let summary = played?;
    if is_json {
        // A summary holds numbers and texts only, so it always has a JSON form.
        let text = serde_json::to_string(&summary).unwrap_or_default();
        print_line(&text);
    }
    Ok(is_ok)
}

/// Standard output is for this line alone.
fn print_line(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // If the reader has gone, nobody wants it.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// From the empty folder to the summary.
async fn play(
    args: &QuickstartArgs,
    home: &Home,
    nursery: &Nursery,
    screen: &Arc<Screen>,
    mut asked_to_end: StopSignal,
) -> Result<Summary, QuickstartError> {
    let (stop, stopped) = Stop::new();
    let raising =
        stage::raise(home, nursery, usize::from(args.routers), args.leaf_life, args.faults, screen.clone(), &stopped);
    let cast = tokio::select! {
        raised = raising => Arc::new(raised?),
        () = asked_to_end.stopped() => return Err(StageError::Interrupted.into()),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(show(cast.clone(), screen.clone(), stopped.clone()));
    let end_at = args.run_for.map(|run_for| tokio::time::Instant::from_std(screen_start(screen) + run_for));
    let ready = tokio::select! {
        ready = cast.until_all_connected() => ready,
        () = asked_to_end.stopped() => Err(StageError::Interrupted),
    };
    if let Err(error) = ready {
        cast.end(FAREWELL).await;
        return Err(error.into());
    }
    // The load has its own end: it stops in good order before anything else does.
    let (load_stop, load_stopped) = Stop::new();
    let mut loading = cast.load(&load_stopped);
    cast.watch_truth(&stopped, &mut tasks);

    let mut struck = None;
    let (fault_stop, fault_stopped) = Stop::new();
    let mut faulting = JoinSet::new();
    if args.faults {
        // Faults spare whoever has little time left, so that has to be known first.
        cast.field.lockout.sample().await;
        let seed = args.seed.unwrap_or_else(Dice::fresh_seed);
        let (kinds, skipped) = faults::allowed(&cast.field, home.path());
        screen.say(&format!(
            "{:6.1} s  faults begin; `--seed {seed}` repeats their plan",
            screen.elapsed().as_secs_f32()
        ));
        for (kind, why) in &skipped {
            screen.say(&format!("          {kind} is skipped: {why}"));
        }
        cast.field.tally.books().skipped = skipped;
        struck = Some((seed, Instant::now()));
        faulting.spawn(faults::run(cast.field.clone(), Plan::new(seed, &kinds), fault_stopped));
    }
    let faults_end_at = end_at.map(|at| if args.faults { at.checked_sub(LAST_ACT).unwrap_or(at) } else { at });
    tokio::select! {
        () = until(faults_end_at) => {}
        () = asked_to_end.stopped() => screen.say("ending"),
    }
    fault_stop.stop();
    let faults_ended = Instant::now();
    while faulting.join_next().await.is_some() {}
    load_stop.stop();
    while loading.join_next().await.is_some() {}
    if args.faults {
        screen.say(&format!(
            "{:6.1} s  faults are over; every router is restarted once more",
            screen.elapsed().as_secs_f32()
        ));
        cast.restart_all(ADMITTED_WITHIN).await;
        tokio::select! {
            () = until(end_at.or_else(|| Some(tokio::time::Instant::now()))) => {}
            () = asked_to_end.stopped() => {}
        }
    }
    cast.field.lockout.sample().await;
    stop.stop();
    while tasks.join_next().await.is_some() {}
    if screen.is_terminal() {
        screen.draw(table_of(&cast));
        screen.leave();
    }
    cast.end(FAREWELL).await;
    let run = Run {
        elapsed: screen.elapsed(),
        leaf_life: args.leaf_life,
        faults: struck.map(|(seed, from)| (seed, from, faults_ended)),
    };
    Ok(Summary::new(&cast.field.tally.books(), &run))
}

fn screen_start(screen: &Screen) -> Instant {
    Instant::now().checked_sub(screen.elapsed()).unwrap_or_else(Instant::now)
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Draws the table, or tells plain lines, until told to stop.
async fn show(cast: Arc<Cast>, screen: Arc<Screen>, mut stopped: StopSignal) {
    let pause = if screen.is_terminal() { DRAW } else { TELL };
    loop {
        if screen.is_terminal() {
            screen.draw(table_of(&cast));
        } else {
            for row in rows_of(&cast) {
                screen.say(&format!("{:6.1} s  {}", screen.elapsed().as_secs_f32(), table::line(&row)));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped.stopped() => return,
        }
    }
}

fn rows_of(cast: &Cast) -> Vec<Row> {
    let tallies = cast.field.tally.books().routers.clone();
    let units = &cast.field.units;
    tallies
        .into_iter()
        .zip(units)
        .map(|(tally, unit)| Row { tally, now: unit.watched.now(), stage: "starting" })
        .collect()
}

fn table_of(cast: &Cast) -> Vec<String> {
    let mut rows = vec![String::new()];
    rows.extend(table::rows(&rows_of(cast)));
    rows.push(String::new());
    rows
}
