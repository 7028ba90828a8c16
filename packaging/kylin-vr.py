#!/bin/sh
# For callers of kylin-vr.py 0.1, whatever they run it with: sh, Python 2 or Python 3. All it does is to exec kylin-vr.
''':'
case $#$1 in
  0) set -- start ;;
  1-*) ;;
  1*) set -- start --config "$1" ;;
esac
PATH=${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
exec kylin-vr "$@"
'''
import os
import sys

args = sys.argv[1:] or ['start']
if len(sys.argv) == 2 and not args[0].startswith('-'):
    args = ['start', '--config'] + args
os.environ['PATH'] = os.environ.get('PATH') or '/usr/sbin:/usr/bin:/sbin:/bin'
try:
    os.execvp('kylin-vr', ['kylin-vr'] + args)
except OSError as error:
    sys.stderr.write('kylin-vr: %s\n' % error)
    sys.exit(127)
