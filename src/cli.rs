//! The command line: one variant, one function of one module. Settings are those of `config`.
//!
//! `main` parses it and calls the command's function in `app`. The document comments here are what `--help` prints.

mod tools;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::Settings;

pub use tools::{CompletionsArgs, ManArgs, SignArgs};

/// Mirrors Tencent Cloud Chat groups into PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    max_term_width = 110,
    after_help = "Example, with nothing set and a PostgreSQL of its own:\n  group-mirror"
)]
pub struct Cli {
    /// What to do; `serve` if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings, by flag or environment
    #[command(flatten)]
    pub settings: Settings,
}

/// The definition of the command line, of which completions and manual pages are made.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// What `simulate` sends; app and tokens are those of the settings.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Which app of `SDK_APP_ID` [default: the first]
    #[arg(long, value_name = "ID")]
    pub app: Option<String>,
    /// The callback listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub callback_url: String,
    /// The internal listener, for --verify and --demo
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub api_url: String,
    /// The demo world instead: clubs with human names over two weeks, among them a moderator who removes six people, a
    /// group that is dismissed, callbacks that cannot be read; a second run adds nothing
    #[arg(
        long,
        conflicts_with_all = [
            "callbacks", "rate", "connections", "groups", "users", "duplicates", "disorder", "delay_ms", "membership",
            "run", "rows",
        ]
    )]
    pub demo: bool,
    /// How many callbacks, repeats not counted; at most 2000000
    #[arg(long, default_value_t = 1000)]
    pub callbacks: u64,
    /// How many a second; 0: as many as are answered
    #[arg(long, default_value_t = 0)]
    pub rate: u32,
    /// How many connections at once
    #[arg(long, default_value_t = 16)]
    pub connections: u16,
    /// How many groups
    #[arg(long, default_value_t = 100)]
    pub groups: u32,
    /// Out of how many users the members come
    #[arg(long, default_value_t = 200)]
    pub users: u32,
    /// The share sent twice, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    pub duplicates: f64,
    /// The share held back and overtaken by others, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    pub disorder: f64,
    /// How long a callback is held back at most, in milliseconds; without a rate each callback stands for 1 µs
    #[arg(long, default_value_t = 2000)]
    pub delay_ms: u64,
    /// The share of callbacks that change membership, 0 to 1
    #[arg(long, default_value_t = 0.6)]
    pub membership: f64,
    /// Repeats what happens
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The beginning of every group id [default: sim-SEED-TIME]
    #[arg(long)]
    pub run: Option<String>,
    /// Read the mirror back and compare it with what was sent; exit 1 if it differs
    #[arg(long)]
    pub verify: bool,
    /// Compare the rows in PostgreSQL as well, by `DATABASE_URL` or the embedded PostgreSQL of `DATA_DIR`
    #[arg(long, requires = "verify")]
    pub rows: bool,
}

/// What `fake-tencent` is made of; app and token are those of the settings.
#[derive(Debug, Clone, Args)]
pub struct FakeTencentArgs {
    /// Which app of `SDK_APP_ID` it is [default: the first]
    #[arg(long, value_name = "ID")]
    pub app: Option<String>,
    /// Where the REST API listens, on loopback
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    pub listen: String,
    /// The callback listener of the mirror; empty: callbacks are counted and not sent
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080/callback")]
    pub callback_url: String,
    /// The app's secret key; the default is no secret
    #[arg(long, value_name = "KEY", default_value = FAKE_SECRET_KEY, hide_default_value = true)]
    pub secret_key: String,
    /// Accounts that may call the REST API, separated by commas
    #[arg(long, value_name = "ACCOUNT,…", default_value = "administrator")]
    pub admin: String,
    /// Groups that exist before the fake begins; no callback is sent for their creation
    #[arg(long, default_value_t = 0)]
    pub existing_groups: u32,
    /// Members of each of them
    #[arg(long, default_value_t = 50)]
    pub existing_members: u32,
    /// How many groups there are at the same time, about
    #[arg(long, default_value_t = 20)]
    pub groups: u32,
    /// How many users there are
    #[arg(long, default_value_t = 100)]
    pub users: u32,
    /// Changes of the random life per second; 0: nothing happens unless it is asked for
    #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
    pub changes_per_sec: f64,
    /// Repeats what happens
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How it behaves where Tencent's pages say nothing, and what goes wrong, such as lost=0.1; several times. All of them
    /// with their values: GET /fake/knobs
    #[arg(long, value_name = "NAME=VALUE")]
    pub knob: Vec<String>,
}

/// What `check` does beside looking.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// Then wait for one callback, and say what came; so many seconds at most
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "120",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub wait: Option<u64>,
    /// Ask Tencent what its pages do not say: reads alone, few and slow; the answers hold no ids and no names
    #[arg(long)]
    pub probe: bool,
    /// Of several apps only this one
    #[arg(long, value_name = "ID")]
    pub app: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// What `relay` does; both work while `serve` runs, which delivers what is queued.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["status", "again"])))]
pub struct RelayArgs {
    /// How much waits for the backend of each app, how long, and what was given up
    #[arg(long)]
    pub status: bool,
    /// Queue callbacks of a group once more, whether or not the backend had them
    #[arg(long, requires_all = ["group", "from", "to"])]
    pub again: bool,
    /// With --again: the group
    #[arg(long, value_name = "GROUP_ID", requires = "again", allow_hyphen_values = true)]
    pub group: Option<String>,
    /// With --again: received at this time or later, such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", requires = "again")]
    pub from: Option<String>,
    /// With --again: received before this time
    #[arg(long, value_name = "TIME", requires = "again")]
    pub to: Option<String>,
    /// With --again: the app, where several are configured [default: the first of `SDK_APP_ID`]
    #[arg(long, value_name = "APP", requires = "again")]
    pub app: Option<String>,
}

/// What is pruned.
#[derive(Debug, Clone, Args)]
pub struct PruneArgs {
    /// Only what was received, and counts from, before this time, such as 2026-01-01T00:00:00Z [default: `LEDGER_KEEP_DAYS`
    /// before now]
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// Write nothing: print how many entries would become checkpoints
    #[arg(long)]
    pub dry_run: bool,
    /// Nothing behind the entry of this cursor of `/v1/changes`, up to which a follower has read
    #[arg(long, value_name = "CURSOR")]
    pub follower: Option<String>,
    /// Drop what waits for the backend of the relay as well, and what was given up: it is not delivered any more
    #[arg(long)]
    pub force: bool,
}

/// Who is erased.
#[derive(Debug, Clone, Args)]
pub struct EraseUserArgs {
    /// The user id, as Tencent writes it
    #[arg(value_name = "USER_ID", allow_hyphen_values = true)]
    pub user: String,
    /// The app, where several are configured [default: the first of `SDK_APP_ID`]
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Write nothing: print how many rows hold the id, by column
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the id in callbacks and reads of a later time as well; they are new data otherwise
    #[arg(long)]
    pub stay_erased: bool,
}

/// The key of the fake where none is set. It protects nothing: the fake listens on loopback and has a door without a key.
const FAKE_SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What can be done.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Receive callbacks and serve the mirror
    #[command(
        after_help = "Example:\n  CALLBACK_TOKEN=… API_TOKEN=desk:… SDK_APP_ID=1400000001 \\\n  DATABASE_URL=postgres://mirror:…@db/mirror group-mirror serve"
    )]
    Serve {
        /// Take the database of `DATABASE_URL` although this data directory belongs to another: what is in the spool is
        /// written into it
        #[arg(long)]
        adopt_database: bool,
    },
    /// Bring the schema of the database up to date
    #[command(after_help = "Example:\n  DATABASE_URL=postgres://mirror:…@db/mirror group-mirror migrate")]
    Migrate,
    /// Send signed callbacks of all group commands to a running mirror, late, reversed and repeated as asked for
    #[command(
        after_help = "Examples:\n  group-mirror simulate --demo\n  group-mirror simulate --callbacks 10000 --duplicates 0.1 --disorder 0.3 --verify\n  group-mirror simulate --rate 1000 --callbacks 60000 --connections 64 --seed 7"
    )]
    Simulate(SimulateArgs),
    /// Rebuild the mirror from the ledger, where the two differ; works while `serve` runs
    #[command(
        after_help = "Examples:\n  group-mirror replay --verify   # prints differences, exit 1 if there are any\n  group-mirror replay            # writes what differs; makes tables that were dropped\n  group-mirror replay --parked   # tries again what was parked or read in part, after an update\n  group-mirror replay --parked --cause future_time   # the same for one cause"
    )]
    Replay {
        /// Change nothing; print the differences and exit with 1 if there is one
        #[arg(long, conflicts_with = "parked")]
        verify: bool,
        /// Try again what was parked or read in part, and apply what can be read now
        #[arg(long)]
        parked: bool,
        /// With --parked: only entries with this cause, such as `not_json` or `future_time`
        #[arg(long, value_name = "LABEL", requires = "parked")]
        cause: Option<String>,
        /// Go on where an earlier one was interrupted, at the place that its log has last
        #[arg(long, value_name = "PLACE", conflicts_with = "parked")]
        resume: Option<String>,
    },
    /// Read all groups from Tencent's REST API into the mirror; goes on where it was interrupted, beside a running `serve`
    #[command(
        after_help = "Example:\n  TENCENT_API_URL=https://console.tim.qq.com TENCENT_SECRET_KEY_FILE=key group-mirror backfill"
    )]
    Backfill {
        /// Only this app of `SDK_APP_ID`
        #[arg(long, value_name = "ID")]
        app: Option<String>,
    },
    /// Compare all groups with Tencent's REST API at once, and repair what differs
    #[command(
        after_help = "Examples:\n  group-mirror reconcile            # one full pass; prints what it repaired\n  group-mirror reconcile --dry-run  # writes nothing; exit 1 if anything differs"
    )]
    Reconcile {
        /// Only this app of `SDK_APP_ID`
        #[arg(long, value_name = "ID")]
        app: Option<String>,
        /// Write nothing: print how much differs, by kind, and exit with 1 if anything does
        #[arg(long)]
        dry_run: bool,
    },
    /// Look at everything that the service relies on, beside a running one or before it; exit 1 if something is wrong
    #[command(
        after_help = "Examples:\n  group-mirror check\n  group-mirror check --wait          # then make a group in the app\n  group-mirror check --probe --app 1400000001 > answers.txt"
    )]
    Check(CheckArgs),
    /// Show what waits for the backend behind the mirror, or deliver callbacks again
    #[command(
        after_help = "Examples:\n  group-mirror relay --status\n  group-mirror relay --again --group @TGS#2RIVERB7QK --from 2026-01-01T00:00:00Z --to 2026-01-02T00:00:00Z"
    )]
    Relay(RelayArgs),
    /// Replace a user's id everywhere by a pseudonym, beside a running `serve`; exit 1 if the id still stands somewhere
    #[command(
        after_help = "Examples:\n  group-mirror erase-user --dry-run ana\n  group-mirror erase-user ana\n  group-mirror erase-user --app 1400000001 --stay-erased ana"
    )]
    EraseUser(EraseUserArgs),
    /// Replace old entries of the ledger by checkpoints; works while `serve` runs, with the role that owns the tables
    #[command(
        after_help = "Examples:\n  LEDGER_KEEP_DAYS=90 group-mirror prune --dry-run\n  LEDGER_KEEP_DAYS=90 group-mirror prune\n  group-mirror prune --before 2026-01-01T00:00:00Z"
    )]
    Prune(PruneArgs),
    /// Ask the running `serve` of these settings whether it is ready; exit 1 if it is not, or does not answer
    #[command(
        after_help = "Example, as the health check of a container:\n  HEALTHCHECK CMD [\"group-mirror\", \"ready\"]"
    )]
    Ready,
    /// Sign a callback and print a curl line that sends it, or verify the signature of a request; exit 1 if it is refused
    #[command(
        after_help = "Examples:\n  group-mirror sign                               # proves address, app and token; nothing is stored\n  group-mirror sign --body callback.json --callback-url https://mirror.example.org/callback\n  group-mirror sign --verify 'POST /callback?SdkAppid=…&RequestTime=…&Sign=…' --time 1767225600"
    )]
    Sign(SignArgs),
    /// Print the version of this program, its commit, schema and formats, and where the PostgreSQL inside it comes from
    #[command(after_help = "Examples:\n  group-mirror version\n  group-mirror version --json")]
    Version {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the completions of a shell
    #[command(
        after_help = "Example:\n  group-mirror completions bash > /usr/share/bash-completion/completions/group-mirror"
    )]
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    #[command(
        after_help = "Examples:\n  group-mirror man | man -l -\n  group-mirror man --dir /usr/share/man/man1"
    )]
    Man(ManArgs),
    /// Be a Tencent to try things out with: REST API, random life of groups, signed callbacks
    #[command(
        after_help = "Examples, beside a `group-mirror` without configuration:\n  group-mirror fake-tencent\n  group-mirror fake-tencent --changes-per-sec 50 --groups 200 --knob lost=0.05 --knob doubled=0.1 --knob delayed=0.2"
    )]
    FakeTencent(FakeTencentArgs),
    /// Print the OpenAPI document of the read API
    #[command(after_help = "Example:\n  group-mirror openapi > openapi.json")]
    Openapi,
}
