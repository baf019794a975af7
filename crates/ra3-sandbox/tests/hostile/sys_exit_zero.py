# expect: wrong
import sys
sys.exit(0)
