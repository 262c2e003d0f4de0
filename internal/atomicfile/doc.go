// Package atomicfile changes files so that a reader, a crash or a full disk never sees half of a change.
//
// Every change goes through a temporary name in the same directory: create exclusively, write, set owner and mode, fsync,
// rename, fsync the directory. When a function returns nil the change survives a power cut; when it returns an error the
// old content is still there and the temporary is gone, except that a failed fsync of the directory can leave the new
// content in place, complete but perhaps not yet durable. A killed process leaves at most a temporary ([IsTemp]), which
// [Dir.Sweep] removes.
//
// Modes are exact: the umask has no influence, and a file is never wider open than asked for, not for a moment.
//
// A directory is opened once and used by its descriptor. On the way to it, symbolic links of other users are not followed.
//
// It does not lock anything and does not keep backups; two writers of one file are serialised by their callers.
package atomicfile
