# Draws redis.png in `folder` from LANE/figures.dat and LANE/meaning.txt for each of `lanes`, which `titles` names; `raws` says
# which have figures of raw verbs (1 or 0). For each lane: requests/s above and p99 below, a column per command; then raw verbs
# beside what the figures mean.
rows = 0
do for [n = 1:words(lanes)] { rows = rows + 2 + word(raws, n) }
set terminal pngcairo size 1500,60 + 470 * rows font "DejaVu Sans,12"
set output folder."/redis.png"
set multiplot layout rows,2 title "Redis over kernel TCP and in the lane, unmodified programs" font ",16"

set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set boxwidth 0.9
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror out
set xtics font ",10"
set key top left horizontal reverse Left
set bmargin 6
tcp = "#9aa5b1"
fast = "#1f6fb2"
raw = "#d98032"
set yrange [0:*]
set offsets 0, 0, graph 0.25, 0 # room for the key
label(size, clients) = sprintf("%s\n%d", size, clients)
higher(a, b) = a > b ? a : b

do for [n = 1:words(lanes)] {
  data = folder."/".word(lanes, n)."/figures.dat"
  title = word(titles, n)
  set xlabel "bytes of a value, and number of clients" offset 0,-1
  do for [i = 0:1] {
    set title title.": ".(i ? "SET" : "GET").", requests per second; above: lane / TCP" font ",13"
    plot data index i using 3:xtic(label(strcol(1), column(2))) title "kernel TCP" lc rgb tcp, \
         '' index i using 4 title title lc rgb fast, \
         '' index i using 0:(higher($3, $4)):(sprintf("%.2f×", column(7))) with labels offset 0,0.7 notitle
  }
  do for [i = 0:1] {
    set title title.": ".(i ? "SET" : "GET").", latency, 99th percentile, ms" font ",13"
    plot data index i using 5:xtic(label(strcol(1), column(2))) title "kernel TCP" lc rgb tcp, \
         '' index i using 6 title title lc rgb fast
  }
  if (word(raws, n) eq "1") {
    set title "Without Redis and librsock: round trips per second; above: verbs / TCP" font ",13"
    set xlabel "bytes there and back" offset 0,-1
    plot data index 2 using 2:xtic(1) title "kernel TCP" lc rgb tcp, \
         '' index 2 using 3 title "raw verbs" lc rgb raw, \
         '' index 2 using 0:(higher($2, $3)):(sprintf("%.2f×", column(4))) with labels offset 0,0.7 notitle
    unset title; unset xlabel; unset border; unset tics; unset grid
    set label 1 system("cat '".folder."/".word(lanes, n)."/meaning.txt'") at graph 0.02,0.8 font ",13"
    plot [0:1] [0:1] -1 notitle
    unset label 1
    set border 3; set tics nomirror out; set xtics font ",10"; set grid ytics lc rgb "#dddddd"; set yrange [0:*]; set xrange [*:*]
  }
}
unset multiplot
