# The quickstart from an empty output folder, on this machine; and a second run that finds everything done.
. "$(dirname "$0")/support.sh"
unset LIMN_THREADS OMP_WAIT_POLICY
root=$(dirname "$configs")
"$root/quickstart.sh" --output "$folder/quickstart" || fail "the quickstart"
awk '/Captions seen/ { getline; exit !($1 >= 60 && $3 == 100) }' quickstart/REPORT.txt || fail "$(cat quickstart/REPORT.txt)"
"$root/quickstart.sh" --output "$folder/quickstart" >again.log 2>&1 || fail "the second run: $(tail -n 5 again.log)"
[ "$(grep -c 'steps are done' again.log)" = 2 ] || fail "the second run trained again"
