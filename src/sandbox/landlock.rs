//! The kernel's side: one ruleset, entered once.

use ::landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, make_bitflags,
};

use super::{Access, Confined, Needs};

/// The newest version whose rights are all handled here (Linux 6.10). Version 9 can keep processes from Unix sockets,
/// those of the name service among them, whose places are not known.
const HANDLED: ABI = ABI::V5;

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Rules(#[from] RulesetError),
    #[error(transparent)]
    Path(#[from] PathFdError),
}

/// Confines this thread; never leaves it half confined.
pub(super) fn confine(needs: &Needs) -> Confined {
    match restrict(needs) {
        Ok(RulesetStatus::FullyEnforced) => Confined::Wholly,
        Ok(RulesetStatus::PartiallyEnforced) => Confined::Partly("as far as this kernel can".to_owned()),
        Ok(RulesetStatus::NotEnforced) => Confined::Not("this kernel has no Landlock".to_owned()),
        Err(error) => Confined::Not(format!("this kernel's Landlock cannot do it: {error}")),
    }
}

fn restrict(needs: &Needs) -> Result<RulesetStatus, Refused> {
    // Without this right (Linux 5.19) no file may move from `tmp` to `new` under any rule.
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(HANDLED))?
        .create()?;
    for (path, access) in needs.rules() {
        let Ok(opened) = PathFd::new(path) else {
            // Not there, or not for this user: nobody can use it anyway.
            continue;
        };
        let mut rights = rights(access);
        if !path.is_dir() {
            rights &= AccessFs::from_file(HANDLED);
        }
        ruleset = ruleset.add_rule(PathBeneath::new(opened, rights))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    match access {
        Access::List => AccessFs::ReadDir.into(),
        Access::Read => read,
        // Modes of the terminal are set by ioctl(2).
        Access::Device => read | AccessFs::WriteFile | AccessFs::IoctlDev,
        Access::Write => {
            read | make_bitflags!(AccessFs::{
                WriteFile | Truncate | MakeReg | MakeDir | MakeSock | MakeFifo | RemoveFile | RemoveDir | Refer
            })
        }
    }
}
