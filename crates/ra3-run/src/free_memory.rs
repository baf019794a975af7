//! The memory that this process can still have: what the machine has free, and what the control
//! groups that it is in leave it.

use std::path::{Path, PathBuf};

/// Bytes, where Linux says it.
pub(crate) fn free_bytes() -> Option<usize> {
    let machine = machine_bytes("MemAvailable:")?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(match group_bytes(&groups, Path::new("/sys/fs/cgroup")) {
        Some(group) => machine.min(group),
        None => machine,
    })
}

/// A size of `/proc/meminfo` by its name.
pub(crate) fn machine_bytes(name: &str) -> Option<usize> {
    bytes_in(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

fn bytes_in(meminfo: &str, name: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// What the tightest of the groups in `/proc/self/cgroup` leaves; `None` without a limit.
fn group_bytes(groups: &str, root: &Path) -> Option<usize> {
    let left = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        // Version 2 has one tree for everything, version 1 one for each controller.
        let (tree, limit, usage) = if controllers.is_empty() {
            (root.to_owned(), "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            let tree = root.join("memory");
            (tree, "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            return None;
        };
        folders(&tree, path)
            .iter()
            .filter_map(|folder| left_in(folder, limit, usage))
            .min()
    };
    groups.lines().filter_map(left).min()
}

/// A group's folder and those of the groups that it is in. Inside a container the path may be one
/// of the outside, and the tree's root is then the group itself.
fn folders(tree: &Path, path: &str) -> Vec<PathBuf> {
    let group = tree.join(path.trim_start_matches('/'));
    let inside = group
        .ancestors()
        .take_while(|folder| folder.starts_with(tree));
    inside.map(Path::to_owned).collect()
}

fn left_in(folder: &Path, limit: &str, usage: &str) -> Option<usize> {
    let number = |name: &str| -> Option<usize> {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        // "max" is no limit.
        text.trim().parse().ok()
    };
    let (limit, usage) = (number(limit)?, number(usage)?);
    // Cached files give way.
    let statistics = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let files = statistics
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|n| n.trim().parse().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(usage.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:  100 kB\nMemAvailable:     50 kB\n";
        assert_eq!(bytes_in(text, "MemAvailable:"), Some(50 << 10));
        assert_eq!(bytes_in("MemTotal: 100 kB\n", "MemAvailable:"), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        let left = |groups: &str| group_bytes(groups, root.path());
        assert_eq!(left("0::/a/b\n"), None, "no group has a limit");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "70\n");
        assert_eq!(left("0::/a/b\n"), None);
        write("a/memory.max", "1000\n");
        write("a/memory.current", "400\n");
        assert_eq!(left("0::/a/b\n"), Some(600));
        write("a/memory.stat", "anon 1\ninactive_file 100\n");
        assert_eq!(left("0::/a/b\n"), Some(700));
        assert_eq!(left("0::/\n"), None);
        write("memory.max", "300\n");
        write("memory.current", "500\n");
        assert_eq!(left("0::/a/b\n"), Some(0));
        assert_eq!(
            left("0::/elsewhere\n"),
            Some(0),
            "a container sees its own tree"
        );
        write("memory/c/memory.limit_in_bytes", "900\n");
        write("memory/c/memory.usage_in_bytes", "100\n");
        assert_eq!(left("3:cpu,memory:/c\n2:pids:/a\n"), Some(800));
    }
}
