//! Whether a directory lies on a volume in memory: the spool is as durable as its volume, so the start warns of one that
//! a restart of the machine empties.
//!
//! It reads the table of mounts of Linux; elsewhere nothing is known and nothing is reported.

use std::path::Path;

/// The kind of a volume that forgets everything when the machine stops, if the path lies on one. Linux only.
pub fn forgetful_volume(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    forgetful(&path, &mounts)
}

/// The last of the mounts with the longest mount point above the path counts.
fn forgetful(path: &Path, mounts: &str) -> Option<String> {
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        // Spaces and the like are written as octal numbers.
        let point = left.split(' ').nth(4)?.replace("\\040", " ");
        let kind = right.split(' ').next()?.to_owned();
        path.starts_with(&point).then_some((point.len(), kind))
    };
    let (_, kind) = mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length)?;
    ["tmpfs", "ramfs"].contains(&kind.as_str()).then_some(kind)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::forgetful;

    #[test]
    fn a_volume_in_memory_is_distinguished_from_one_on_disk() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:9 / /run rw,nosuid shared:3 - tmpfs tmpfs rw\n\
                      3 2 8:2 / /run/my\\040disk rw - xfs /dev/vdb rw\n";
        let kind = |path: &str| forgetful(Path::new(path), mounts);
        assert_eq!(kind("/run/data"), Some("tmpfs".into()));
        assert_eq!(kind("/run/my disk/data"), None);
        assert_eq!(kind("/runner/data"), None);
        assert_eq!(kind("/var/data"), None);
    }
}
