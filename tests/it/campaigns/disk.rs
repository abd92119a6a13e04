//! Disks of a test's own: file systems in memory, and images that a power cut can be made of. They need root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::process::Installation;

/// How large an image is; what is not written takes no room.
const IMAGE_BYTES: &str = "192M";
/// Copies of an image that changed while it was copied, before that is a failure.
const COPIES_MAX: usize = 20;

/// Whether this process may mount. A full campaign has to; a taste of one says what it needs, and is left out.
pub fn may_mount() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let tried = Mount::memory(dir.path().to_owned(), "1m");
    if let Err(why) = &tried {
        assert!(!super::full(), "a full campaign mounts file systems: {why}");
        eprintln!(
            "left out: mounting file systems needs root (or CAP_SYS_ADMIN and loop devices): {why}"
        );
    }
    tried.is_ok()
}

/// Mounted until it is dropped.
pub struct Mount(PathBuf);

impl Mount {
    fn new(args: &[&str], at: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        run(Command::new("mount").args(args).arg(&at))?;
        Ok(Self(at))
    }

    /// A file system in memory, of that size.
    pub fn memory(at: PathBuf, size: &str) -> Result<Self, String> {
        let size = format!("size={size},mode=0700");
        Self::new(&["-t", "tmpfs", "-o", &size, "switchboard-test"], at)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(why) = run(Command::new("umount").arg(&self.0)) {
            eprintln!("{} is left mounted: {why}", self.0.display());
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    (output.status.success())
        .then_some(())
        .ok_or(format!("{command:?}: {said}"))
}

/// Puts the data directory of an installation elsewhere.
pub fn put_data(daemon: &Installation, at: &Path) {
    symlink(at, daemon.dir.path().join("data")).expect("a link");
}

/// ext4 in an image in memory: what was not synced is not in the image.
pub struct Disk {
    // Unmounted in this order.
    mounted: Option<Mount>,
    memory: Mount,
    _dir: tempfile::TempDir,
}

impl Disk {
    pub fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Mount::memory(dir.path().join("images"), "2g").expect("a file system");
        let image = memory.path().join("now.img");
        run(Command::new("truncate")
            .args(["-s", IMAGE_BYTES])
            .arg(&image))
        .expect("an image");
        let whole = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", whole])
            .arg(&image))
        .expect("ext4");
        let mut disk = Self {
            mounted: None,
            memory,
            _dir: dir,
        };
        disk.mount();
        disk
    }

    /// Where it is mounted, now and after cuts.
    pub fn path(&self) -> PathBuf {
        self._dir.path().join("disk")
    }

    fn mount(&mut self) {
        let image = self.memory.path().join("now.img");
        let image = image.to_str().expect("a name");
        let mounted = Mount::new(&["-t", "ext4", "-o", "loop", image], self.path());
        self.mounted = Some(mounted.expect("the image to be mounted"));
    }

    /// What is on the disk at this moment, whatever the kernel still holds. Nothing that writes to it may run.
    pub fn photograph(&self) {
        let (image, copy) = (
            self.memory.path().join("now.img"),
            self.memory.path().join("cut.img"),
        );
        // The kernel writes when it wants to: a copy of two moments would be no disk's.
        let of_one_moment = (0..COPIES_MAX).any(|_| {
            run(Command::new("cp")
                .arg("--sparse=always")
                .args([&image, &copy]))
            .expect("a copy");
            run(Command::new("cmp").arg("-s").args([&image, &copy])).is_ok()
        });
        assert!(
            of_one_moment,
            "the kernel never ceased to write to the image"
        );
    }

    /// The power is back: mounts what was photographed, which replays the journal. Nothing may be open on it.
    pub fn cut(&mut self) {
        self.mounted = None;
        let memory = self.memory.path();
        fs::rename(memory.join("cut.img"), memory.join("now.img")).expect("the copy");
        self.mount();
    }
}
