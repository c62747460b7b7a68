//! A PostgreSQL mirror of Tencent Cloud Chat groups, fed by group callbacks.

pub mod callback;
pub mod mirror;
pub mod model;
