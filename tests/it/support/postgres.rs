//! One PostgreSQL per test process (`TEST_DATABASE_URL`, else a private one), one migrated template, one database per
//! test made from it.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use group_mirror::embedded::{Embedded, Programs};
use group_mirror::store::Database;
use group_mirror::store::schema;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tempfile::TempDir;

struct Server {
    options: PgConnectOptions,
    template: String,
    /// Held so that it lives as long as the process.
    _embedded: Option<Embedded>,
}

static SERVER: OnceLock<Server> = OnceLock::new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database of one test; dropped with it.
pub(crate) struct TestDatabase {
    pub url: String,
    name: String,
}

impl TestDatabase {
    /// With our schema in it.
    pub(crate) async fn create() -> Self {
        let server = server();
        Self::from_template(&server.template).await
    }

    /// With nothing in it.
    pub(crate) async fn create_empty() -> Self {
        Self::from_template("template0").await
    }

    /// With nothing in it, in an encoding.
    pub(crate) async fn create_in(encoding: &str) -> Self {
        Self::from_template(&format!("template0 ENCODING '{encoding}' LOCALE 'C'")).await
    }

    /// With nothing in it, and these options; an error where the server does not know them.
    pub(crate) async fn create_empty_as(options: &str) -> Result<Self, sqlx::Error> {
        Self::try_from_template(&format!("template0 {options}")).await
    }

    async fn from_template(template: &str) -> Self {
        Self::try_from_template(template).await.unwrap()
    }

    async fn try_from_template(template: &str) -> Result<Self, sqlx::Error> {
        let server = server();
        let name = format!("{}_{}", server.template, COUNT.fetch_add(1, Ordering::Relaxed));
        let mut conn = PgConnection::connect_with(&server.options).await.unwrap();
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        conn.execute(AssertSqlSafe(create)).await?;
        conn.close().await?;
        Ok(Self { url: server.options.clone().database(&name).to_url_lossy().to_string(), name })
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Takes connections again.
    pub(crate) async fn allow_connections(&self) {
        let mut conn = PgConnection::connect_with(&server().options).await.unwrap();
        let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name);
        conn.execute(AssertSqlSafe(allow)).await.unwrap();
        conn.close().await.unwrap();
    }

    /// Ends all its connections and takes no new one.
    pub(crate) async fn refuse_connections(&self) {
        let mut conn = PgConnection::connect_with(&server().options).await.unwrap();
        let name = &self.name;
        for statement in [
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
        ] {
            conn.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        conn.close().await.unwrap();
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        let drop = async move || {
            let mut conn = PgConnection::connect_with(&server().options).await?;
            conn.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await
        };
        let _ = on_a_thread(drop);
    }
}

/// Runs a future to its end from wherever the caller is, runtime or not.
pub(crate) fn on_a_thread<T: Send + 'static, F: Future<Output = T>>(
    make: impl FnOnce() -> F + Send + 'static,
) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(make());
    std::thread::spawn(run).join().unwrap()
}

fn server() -> &'static Server {
    SERVER.get_or_init(|| {
        let url = std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty());
        let (url, embedded) = match url {
            Some(url) => (url, None),
            None => {
                let embedded = start_private();
                (embedded.url().to_owned(), Some(embedded))
            }
        };
        let options = PgConnectOptions::from_str(&url).unwrap();
        let template = format!("group_mirror_test_{}", std::process::id());
        let private = embedded.is_some();
        let (to, named) = (options.clone(), template.clone());
        on_a_thread(move || prepare(to, named, private));
        Server { options, template, _embedded: embedded }
    })
}

async fn prepare(options: PgConnectOptions, template: String, private: bool) {
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    if private {
        // Compiling a statement that a test sends once takes longer than running it.
        conn.execute("ALTER SYSTEM SET jit = off").await.unwrap();
        conn.execute("SELECT pg_reload_conf()").await.unwrap();
    }
    let drop = format!("DROP DATABASE IF EXISTS {template}");
    conn.execute(AssertSqlSafe(drop)).await.unwrap();
    let create = format!("CREATE DATABASE {template} TEMPLATE template0");
    conn.execute(AssertSqlSafe(create)).await.unwrap();
    let database = Database::new(options.database(&template).to_url_lossy().as_str()).unwrap();
    schema::migrate(&database).await.unwrap();
    database.close().await;
}

/// Where servers have their files; a directory in memory makes them cheaper, because each test has a database of hundreds of
/// files, and what the tests kill are processes, never the machine.
fn chosen_dir() -> Option<PathBuf> {
    std::env::var_os("TEST_POSTGRES_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// For a server of a test's own.
pub(crate) fn server_dir() -> TempDir {
    chosen_dir().map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap()
}

/// A private server in `TEST_POSTGRES_DIR`, else in cargo's directory for test data. Directories of processes that are gone are cleared first.
fn start_private() -> Embedded {
    let root = chosen_dir().unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    clear_leftovers(&root);
    let dir = root.join(format!("postgres-{}", std::process::id()));
    Embedded::start(&dir, &programs()).unwrap()
}

pub(crate) fn programs() -> Programs {
    Programs {
        bin_dir: std::env::var_os("PG_BIN_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from),
        path: std::env::var_os("PATH"),
    }
}

fn clear_leftovers(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let gone = name
            .strip_prefix("postgres-")
            .is_some_and(|pid| Path::new("/proc/self").exists() && !Path::new("/proc").join(pid).exists());
        if gone {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
