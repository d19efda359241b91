# Included into Bitcoin Core's build (CMAKE_PROJECT_BitcoinCore_INCLUDE). Most of a build's time is
# the same headers parsed hundreds of times; precompiled, they cost a few seconds once. No source
# file is changed.

set(tutti_standard_headers
  <algorithm> <array> <atomic> <chrono> <deque> <filesystem> <fstream> <functional> <iomanip>
  <iostream> <list> <map> <memory> <mutex> <numeric> <optional> <ranges> <set> <span> <sstream>
  <string> <thread> <tuple> <unordered_map> <unordered_set> <utility> <variant> <vector>)
set(tutti_node_headers
  <validation.h> <net_processing.h> <node/context.h> <rpc/util.h> <univalue.h>)

function(tutti_precompile)
  foreach(library bitcoin_common bitcoin_util bitcoin_consensus)
    if(TARGET ${library})
      target_precompile_headers(${library} PRIVATE ${tutti_standard_headers})
    endif()
  endforeach()
  if(TARGET bitcoin_node)
    target_precompile_headers(bitcoin_node PRIVATE ${tutti_standard_headers} ${tutti_node_headers})
  endif()
endfunction()

# The targets exist only at the end of the configuration.
cmake_language(DEFER CALL tutti_precompile)
