//! The names that extended attributes have: a namespace, and for names of archive agents the tags that
//! say what else is kept of them.
//!
//! A tagged name is `scoutfs.` or `cairn.`, then tags in any order, each once, then a free name. The two
//! prefixes mean the same and make different names: what is set as one is not found as the other, so what
//! was set is always what is listed. The first word that is no tag begins the free name.
//!
//! It is here since whoever reads a pool must agree on it: which names a deletion keeps, and which are in
//! an index, is said by nothing but the name.

/// Bytes of the longest name, its prefix included.
pub const XATTR_NAME_BYTES_MAX: usize = 255;

/// The prefixes of tagged names.
pub const XATTR_TAG_PREFIXES: [&str; 2] = ["scoutfs.", "cairn."];

/// Who an extended attribute is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrNamespace {
    /// `user.`: whoever may read and write the file.
    User,
    /// `trusted.`: administrators only.
    Trusted,
    /// `security.`: set by administrators, read by whoever may read the file.
    Security,
    /// As `security.`, with a meaning.
    Tagged(Tags),
}

/// What a tagged name asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Left out of ordinary listings, and kept by the deletion of its inode.
    pub hide: bool,
    /// To be found by its name.
    pub srch: bool,
    /// Adds to a sum over the pool.
    pub totl: bool,
    /// Gives its inode a place in an order of the pool.
    pub indx: bool,
}

/// Why no extended attribute has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadXattrName {
    /// Longer than 255 bytes.
    TooLong,
    /// Empty, with a NUL in it, or nothing behind its prefix and tags.
    Malformed,
    /// Of no namespace that there is.
    Namespace,
    /// A tag's prefix without a tag, a tag twice, or `totl` with `indx`.
    Tags,
}

impl XattrNamespace {
    pub fn parse(name: &[u8]) -> Result<XattrNamespace, BadXattrName> {
        if name.len() > XATTR_NAME_BYTES_MAX {
            return Err(BadXattrName::TooLong);
        }
        if name.is_empty() || name.contains(&0) {
            return Err(BadXattrName::Malformed);
        }
        if let Some(rest) = XATTR_TAG_PREFIXES.iter().find_map(|p| name.strip_prefix(p.as_bytes()))
        {
            let (tags, free) = Tags::parse(rest)?;
            return if free.is_empty() {
                Err(BadXattrName::Malformed)
            } else {
                Ok(XattrNamespace::Tagged(tags))
            };
        }
        let plain = [
            (&b"user."[..], XattrNamespace::User),
            (b"trusted.", XattrNamespace::Trusted),
            (b"security.", XattrNamespace::Security),
        ];
        let found = plain.iter().find_map(|(prefix, namespace)| {
            name.strip_prefix(*prefix).map(|rest| (*namespace, rest))
        });
        match found {
            None => Err(BadXattrName::Namespace),
            Some((_, [])) => Err(BadXattrName::Malformed),
            Some((namespace, _)) => Ok(namespace),
        }
    }

    pub fn is_hidden(self) -> bool {
        matches!(self, XattrNamespace::Tagged(Tags { hide: true, .. }))
    }
}

impl Tags {
    /// The tags at the front, and the free name behind them.
    fn parse(mut rest: &[u8]) -> Result<(Tags, &[u8]), BadXattrName> {
        let mut tags = Tags::default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'.') {
            let tag = match &rest[..end] {
                b"hide" => &mut tags.hide,
                b"srch" => &mut tags.srch,
                b"totl" => &mut tags.totl,
                b"indx" => &mut tags.indx,
                _ => break,
            };
            if std::mem::replace(tag, true) {
                return Err(BadXattrName::Tags);
            }
            rest = &rest[end + 1..];
        }
        if tags == Tags::default() || (tags.totl && tags.indx) {
            return Err(BadXattrName::Tags);
        }
        Ok((tags, rest))
    }

    /// Whether an index outside the inode knows of it.
    pub fn is_indexed(self) -> bool {
        self.srch || self.totl || self.indx
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(name: &str) -> Tags {
        match XattrNamespace::parse(name.as_bytes()) {
            Ok(XattrNamespace::Tagged(tags)) => tags,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn tags_come_in_any_order_and_both_prefixes_mean_the_same() {
        let hide = Tags { hide: true, ..Tags::default() };
        let both = Tags { hide: true, srch: true, ..Tags::default() };
        for prefix in XATTR_TAG_PREFIXES {
            assert_eq!(tagged(&format!("{prefix}hide.a")), hide);
            assert_eq!(tagged(&format!("{prefix}hide.srch.a")), both);
            assert_eq!(tagged(&format!("{prefix}srch.hide.a")), both);
            // What is no tag begins the free name, whatever stands behind it.
            assert_eq!(tagged(&format!("{prefix}hide.a.srch.b")), hide);
            assert_eq!(tagged(&format!("{prefix}hide.hidden")), hide);
            assert_eq!(tagged(&format!("{prefix}hide.srch")), hide, "a tag has a dot behind it");
            let all = tagged(&format!("{prefix}indx.srch.hide.8.42.x"));
            assert!(all.indx && all.srch && all.hide && !all.totl && all.is_indexed());
            assert!(tagged(&format!("{prefix}totl.x.1.2.3")).totl);
        }
        assert!(!hide.is_indexed() && both.is_indexed());
    }

    #[test]
    fn each_name_that_may_not_be_is_refused_for_what_is_wrong_with_it() {
        use BadXattrName::{Malformed, Tags, TooLong};
        let long = format!("user.{}", "x".repeat(251));
        for (name, why) in [
            ("", Malformed),
            ("user.", Malformed),
            ("user.a\0b", Malformed),
            ("trusted.", Malformed),
            ("scoutfs.hide.", Malformed),
            (long.as_str(), TooLong),
            ("user", BadXattrName::Namespace),
            ("system.posix_acl_access", BadXattrName::Namespace),
            ("other.a", BadXattrName::Namespace),
            ("User.a", BadXattrName::Namespace),
            ("scoutfs.a", Tags),
            ("cairn.", Tags),
            ("scoutfs.hide", Tags),
            ("scoutfs.worm.a", Tags),
            ("scoutfs.hide.hide.a", Tags),
            ("cairn.srch.hide.srch.a", Tags),
            ("scoutfs.totl.indx.a", Tags),
            ("scoutfs.indx.hide.totl.a", Tags),
        ] {
            assert_eq!(XattrNamespace::parse(name.as_bytes()), Err(why), "{name:?}");
        }
        let longest = format!("user.{}", "x".repeat(250));
        assert_eq!(XattrNamespace::parse(longest.as_bytes()), Ok(XattrNamespace::User));
        assert_eq!(XattrNamespace::parse(b"trusted.a"), Ok(XattrNamespace::Trusted));
        assert_eq!(XattrNamespace::parse(b"security.a"), Ok(XattrNamespace::Security));
        assert_eq!(XattrNamespace::parse(b"user.hide.\xff"), Ok(XattrNamespace::User));
    }

    #[test]
    fn only_the_hide_tag_hides() {
        let hidden = |name: &[u8]| XattrNamespace::parse(name).is_ok_and(XattrNamespace::is_hidden);
        assert!(hidden(b"scoutfs.hide.a") && hidden(b"cairn.srch.hide.a"));
        assert!(
            !hidden(b"scoutfs.srch.a") && !hidden(b"user.hide.a") && !hidden(b"trusted.hide.a")
        );
        assert!(!hidden(b"cairn.srch.a.hide.b"));
    }
}
