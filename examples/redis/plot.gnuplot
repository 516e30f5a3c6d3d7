# Draws redis.png from figures.dat, both in `folder`: a column per command, requests/s above and p99 below.
set terminal pngcairo size 1500,1000 font "DejaVu Sans,12"
set output folder."/redis.png"
set multiplot layout 2,2 title "Redis over kernel TCP and over ".lane." (".device."), unmodified programs" font ",16"

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
rdma = "#1f6fb2"
set yrange [0:*]
set offsets 0, 0, graph 0.25, 0 # room for the key
set xlabel "bytes of a value, and number of clients" offset 0,-1
label(size, clients) = sprintf("%s\n%d", size, clients)

do for [i = 0:1] {
  set title (i ? "SET" : "GET")." requests per second; above: ".lane." / TCP" font ",13"
  plot folder."/figures.dat" index i using 3:xtic(label(strcol(1), column(2))) title "kernel TCP" lc rgb tcp, \
       '' index i using 4 title lane lc rgb rdma, \
       '' index i using 0:($3 > $4 ? $3 : $4):(sprintf("%.2f×", column(7))) with labels offset 0,0.7 notitle
}
do for [i = 0:1] {
  set title (i ? "SET" : "GET")." latency, 99th percentile, ms" font ",13"
  plot folder."/figures.dat" index i using 5:xtic(label(strcol(1), column(2))) title "kernel TCP" lc rgb tcp, \
       '' index i using 6 title lane lc rgb rdma
}
unset multiplot
