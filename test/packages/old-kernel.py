# usage: python3 old-kernel.py COMMAND...: the command as on Linux 3.10: ENOSYS for what came later and no O_TMPFILE.
import ctypes, os, struct, sys

FIRST_LATER = 314
OPEN, OPENAT, O_TMPFILE_ITSELF = 2, 257, 0o20000000
LD, JGE, JEQ, JSET, RET = 0x20, 0x35, 0x15, 0x45, 0x06
ALLOW, ENOSYS, EOPNOTSUPP = 0x7FFF0000, 0x50000 | 38, 0x50000 | 95

NUMBER, SECOND, THIRD = 0, 16 + 8, 16 + 16
program = [
    (LD, 0, 0, NUMBER),
    (JGE, 0, 1, FIRST_LATER),
    (RET, 0, 0, ENOSYS),
    (JEQ, 0, 2, OPEN),
    (LD, 0, 0, SECOND),
    (JSET, 3, 4, O_TMPFILE_ITSELF),
    (JEQ, 0, 3, OPENAT),
    (LD, 0, 0, THIRD),
    (JSET, 0, 1, O_TMPFILE_ITSELF),
    (RET, 0, 0, EOPNOTSUPP),
    (RET, 0, 0, ALLOW),
]
code = b"".join(struct.pack("HBBI", *each) for each in program)
held = ctypes.create_string_buffer(code)


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
of = Filter(len(program), ctypes.addressof(held))
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(of), 0, 0):
    raise OSError(ctypes.get_errno(), "seccomp")
os.execvp(sys.argv[1], sys.argv[1:])
