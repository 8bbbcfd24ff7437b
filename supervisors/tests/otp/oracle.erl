%% Runs scripts on OTP's own supervisor and writes down what happened.
%%
%% One process per script, all at once, so that their waits overlap. What happened is read from a
%% trace of the supervisor process itself: the ends it received and the starts it made, in its order.
-module(oracle).
%%
%% The children of a simple_one_for_one supervisor are told apart by the name that start_child gives each.
-export([main/1, init/1, start/4, start_one/4]).

%% A script that took longer than this between two advances of the clock is not to be compared: its
%% restarts may have left the window. Keep it a second below the period.
-define(PHASE, 3000).
-define(PERIOD, 4).
-define(ADVANCE, 5200).

main([In, Out]) ->
    {ok, Scripts} = file:consult(In),
    ets:new(plans, [public, named_table, {write_concurrency, true}]),
    Self = self(),
    Spawn = fun(Script) ->
        receive after 2 -> ok end,
        spawn_link(fun() -> Self ! {done, element(2, Script), run(Script)} end)
    end,
    lists:foreach(Spawn, Scripts),
    Traces = [receive {done, N, Trace} -> Trace end || {script, N, _, _, _} <- Scripts],
    ok = file:write_file(Out, Traces),
    halt(0).

%% --- one script ---------------------------------------------------------------------------------

run({script, N, Flags, Children, Steps}) ->
    process_flag(trap_exit, true),
    Tree = {self(), N},
    put(paths, #{}),
    put(answers, []),
    put(phase, erlang:monotonic_time(millisecond)),
    put(number, N),
    element(1, Flags) =:= simple_one_for_one andalso ets:insert(plans, {{N, simple}, true}),
    Lines = steps(Steps, 0, undefined, {Tree, Flags, Children}),
    [io_lib:format("script ~b~n", [N]), [[Line, "\n"] || Line <- Lines], "end\n"].

steps([], _, _, _) -> [];
steps([Step | Rest], At, Root, Script) ->
    {Answer, Root1} = step(Step, Root, Script),
    Alive = quiet(Root1),
    meanwhile(),
    Took = erlang:monotonic_time(millisecond) - get(phase),
    Text = unicode:characters_to_list([io_lib:format("~b ~s |", [At, Answer]), events(), " |", standing(Alive, Root1)]),
    %% How many restarts count afterwards differs on purpose, so none shall.
    erase(relieved) =:= true andalso Took =< ?PHASE andalso Alive andalso advance(),
    if
        Took > ?PHASE -> [Text, "late"];
        Alive; Root1 =:= undefined -> [Text | steps(Rest, At + 1, Root1, Script)];
        true -> [Text]
    end.

step({plan, Path, Outcomes}, Root, {{_, N}, _, _}) ->
    ets:insert(plans, {{N, Path}, Outcomes}),
    {"ok", Root};
step(boot, undefined, {{_, N} = Tree, Flags, Children}) ->
    case supervisor:start_link(?MODULE, {Tree, [], Flags, Children}) of
        {ok, Pid} -> ets:insert(plans, {{N, booted}, true}), {"ok", Pid};
        {error, {shutdown, {failed_to_start_child, Id, _}} = Reason} ->
            put(ended, Reason),
            {["failed ", atom_to_list(Id)], ended}
    end;
step(advance, Root, _) ->
    {advance(), Root};
step({ends, Path, How}, Root, _) ->
    {finish(pid_of(Root, Path), How), Root};
step({together, Pair}, Root, {_, {Strategy, _, _}, _}) ->
    %% The supervisor looks only when both ends are in its queue, in this order.
    ok = sys:suspend(Root),
    Pids = get(last),
    Ends = case Strategy of rest_for_one -> in_start_order(Pair, Pids); _ -> Pair end,
    Answers = [begin
        {Id, Pid, _, _} = lists:keyfind(Id, 1, Pids ++ [{Id, undefined, worker, []}]),
        Answer = finish(Pid, How),
        Answer =:= "none" orelse in_queue(Root, Pid),
        Answer
    end || {Id, How} <- Ends],
    catch sys:resume(Root),
    {lists:join(" ", Answers), Root};
step(stop, Root, _) ->
    exit(Root, shutdown),
    {"ok", Root};
step({on, Path, Call}, Root, {Tree, _, _}) ->
    case pid_of(Root, Path) of
        none -> {"none", Root};
        Pid -> {ask_for(Pid, Call, request(Call, Tree, Path)), Root}
    end;
step({check, Auto, Children}, Root, {Tree, _, _}) ->
    Specs = [spec(Tree, [], Child) || Child <- Children],
    {checked(supervisor:check_childspecs(Specs, Auto)), Root}.

checked(ok) -> "ok";
checked({error, {duplicate_child_name, Id}}) -> ["duplicate ", atom_to_list(Id)];
checked({error, {bad_combination, _}}) -> "significant".

advance() ->
    receive after ?ADVANCE -> ok end,
    put(phase, erlang:monotonic_time(millisecond)),
    "ok".

finish(none, _) -> "none";
finish(undefined, _) -> "none";
finish(restarting, _) -> "none";
finish(Pid, How) ->
    Monitor = monitor(process, Pid),
    case {How, proc_lib:initial_call(Pid)} of
        {killed, _} -> exit(Pid, kill);
        {Reason, {supervisor, _, _}} -> catch gen_server:stop(Pid, Reason, infinity);
        {Reason, _} -> Pid ! {finish, Reason}
    end,
    receive {'DOWN', Monitor, process, Pid, _} -> "ok" end.

in_start_order(Pair, Newest) ->
    Ids = [Id || {Id, _, _, _} <- lists:reverse(Newest)],
    Known = [{Id, How} || I <- Ids, {Id, How} <- Pair, I =:= Id],
    Known ++ (Pair -- Known).

in_queue(Root, Pid) ->
    {messages, Messages} = process_info(Root, messages),
    case lists:any(fun({'EXIT', P, _}) -> P =:= Pid; (_) -> false end, Messages) of
        true -> ok;
        false -> receive after 1 -> in_queue(Root, Pid) end
    end.

%% --- calls --------------------------------------------------------------------------------------

%% The requests behind supervisor's functions of the same names; none about a dynamic child that never was.
request(Call, {_, N} = Tree, Path) -> request(Call, Tree, Path, Path =:= [] andalso simple(N)).

request({start_child, Child}, _, _, true) -> {start_child, [element(1, Child)]};
request({Call, Id}, {_, N}, _, true) ->
    case ets:lookup(plans, {pid, N, [Id]}) of
        [{_, Pid}] -> {Call, Pid};
        [] -> none
    end;
request({start_child, Child}, Tree, Path, false) -> {start_child, spec(Tree, Path, Child)};
request(Call, _, _, false) -> Call.

simple(N) -> ets:member(plans, {N, simple}).

ask_for(_, _, none) -> "none";
ask_for(Pid, Call, Request) -> answer(Call, call(Pid, Request)).

call(Pid, Request) ->
    try gen_server:call(Pid, Request, infinity) catch exit:_ -> gone end.

answer(_, gone) -> "gone";
answer(_, ok) -> "ok";
answer({get_childspec, _}, {ok, Spec}) ->
    #{restart := Restart, significant := Significant, shutdown := Shutdown, type := Type} = Spec,
    io_lib:format("~p ~p ~p ~p", [Restart, Significant, Shutdown, Type]);
answer(_, {ok, undefined}) -> "ignored";
answer(_, {ok, _}) -> "ok";
answer(_, {error, {already_started, _}}) -> "already_started";
answer(_, {error, Reason}) when Reason =:= already_present; Reason =:= running;
        Reason =:= restarting; Reason =:= not_found -> atom_to_list(Reason);
answer({start_child, _}, {error, {bad_combination, _}}) -> "invalid";
answer({start_child, _}, {error, {invalid_significant, _}}) -> "invalid";
answer(_, {error, _}) -> "failed".

%% Answers to the calls made while a child was being restarted.
meanwhile() ->
    receive
        {asked, Asker} ->
            receive {answered, Asker, Path, Call, Answer} ->
                Call =:= {terminate_child, lists:last(Path)} andalso put(relieved, true),
                put(answers, get(answers) ++ [{Path, Answer}])
            end,
            meanwhile()
    after 0 -> ok
    end.

%% --- the supervisor's side ----------------------------------------------------------------------

init({{Driver, _} = Tree, Path, {Strategy, Intensity, Auto}, Children}) ->
    Driver ! {supervisor, self(), Path},
    erlang:trace(self(), true, ['receive', send, {tracer, Driver}]),
    Flags = #{strategy => Strategy, intensity => Intensity, period => ?PERIOD, auto_shutdown => Auto},
    {ok, {Flags, [spec(Tree, Path, Child) || Child <- Children]}}.

spec({_, N} = Tree, Path, {Id, Restart, Significant, Shutdown, Kind, Manner}) ->
    Type = case Kind of worker -> worker; _ -> supervisor end,
    Start = case Path =:= [] andalso simple(N) of
        true -> {?MODULE, start_one, [Tree, Kind, Manner]};
        false -> {?MODULE, start, [Tree, Path ++ [Id], Kind, Manner]}
    end,
    #{id => Id, start => Start, restart => Restart, significant => Significant, shutdown => Shutdown, type => Type}.

start_one(Tree, Kind, Manner, Name) -> start(Tree, [Name], Kind, Manner).

%% Runs in the supervisor.
start({Driver, N} = Tree, Path, Kind, Manner) ->
    Result = case outcome(N, Path) of
        ok -> spawned(Tree, Path, Kind, Manner);
        ignore -> ignore;
        fail -> {error, refused};
        {fail, Call} ->
            ets:member(plans, {N, booted}) andalso ask(Tree, Path, Call),
            {error, refused}
    end,
    case Result of {ok, Pid} -> ets:insert(plans, {{pid, N, Path}, Pid}); _ -> ok end,
    Driver ! {start, lists:last(Path), Result},
    Result.

spawned(Tree, Path, {supervisor, Flags, Children}, _) ->
    supervisor:start_link(?MODULE, {Tree, Path, Flags, Children});
spawned(_, _, worker, Manner) ->
    Starter = self(),
    Pid = spawn_link(fun() ->
        process_flag(trap_exit, true),
        Starter ! {up, self()},
        worker(Manner)
    end),
    receive {up, Pid} -> {ok, Pid} end.

worker(Manner) ->
    receive
        {finish, done} -> exit({shutdown, done});
        {finish, Reason} -> exit(Reason);
        {'EXIT', _, killed} -> exit(killed);
        {'EXIT', _, _} when Manner =:= stubborn -> worker(Manner);
        {'EXIT', _, _} when Manner =:= failing -> exit(error);
        {'EXIT', _, _} -> exit(shutdown)
    end.

outcome(N, Path) ->
    case ets:lookup(plans, {N, Path}) of
        [{Key, [Outcome | Rest]}] -> ets:insert(plans, {Key, Rest}), Outcome;
        _ -> ok
    end.

%% Has the call in the supervisor's queue before it tries again.
ask({Driver, N} = Tree, Path, Call) ->
    Supervisor = self(),
    Asker = spawn(fun() ->
        Within = lists:droplast(Path),
        Answer = case Call of
            {ends, Id, How} ->
                Ended = case ets:lookup(plans, {pid, N, Within ++ [Id]}) of
                    [{_, Pid}] -> is_process_alive(Pid) andalso finish(Pid, How) =:= "ok"
                        andalso in_queue(Supervisor, Pid);
                    [] -> false
                end,
                Supervisor ! {asked, self()},
                case Ended of false -> "none"; ok -> "ok" end;
            _ ->
                Request = gen_server:send_request(Supervisor, request(Call, Tree, Within)),
                Supervisor ! {asked, self()},
                case gen_server:receive_response(Request, infinity) of
                    {reply, Reply} -> answer(Call, Reply);
                    {error, _} -> "gone"
                end
        end,
        Driver ! {answered, self(), Path, Call, Answer}
    end),
    receive {asked, Asker} -> ok end,
    Driver ! {asked, Asker}.

%% --- what can be seen ---------------------------------------------------------------------------

%% Waits until nothing is under way; whether the tree stands.
quiet(undefined) -> false;
quiet(ended) -> false;
quiet(Pid) ->
    case settled(Pid) of
        ended -> receive {'EXIT', Pid, Reason} -> put(ended, Reason) end, false;
        true -> true;
        false -> receive after 1 -> quiet(Pid) end
    end.

settled(Pid) ->
    case call(Pid, which_children) of
        gone -> ended;
        Children -> lists:all(fun is_settled/1, Children)
    end.

is_settled({_, undefined, _, _}) -> true;
is_settled({_, restarting, _, _}) -> false;
is_settled({_, Pid, supervisor, _}) -> settled(Pid) =:= true;
is_settled({_, Pid, worker, _}) -> is_process_alive(Pid).

pid_of(Pid, []) -> Pid;
pid_of(Pid, [Id | Rest]) ->
    case lists:keyfind(Id, 1, named(call(Pid, which_children))) of
        {_, Child, _, _} when is_pid(Child) -> pid_of(Child, Rest);
        _ -> none
    end.

%% Dynamic children by the names they were given, in that order.
named(Children) ->
    Names = [{Pid, Name} || [Pid, Name] <- ets:match(plans, {{pid, get(number), ['$2']}, '$1'})],
    Name = fun(Pid) -> proplists:get_value(Pid, Names, undefined) end,
    case lists:all(fun({Id, _, _, _}) -> Id =:= undefined end, Children) of
        true -> lists:sort([{Name(Pid), Pid, Type, Modules} || {_, Pid, Type, Modules} <- Children]);
        false -> Children
    end.

%% What the supervisors saw since the last step, each in its order.
events() ->
    [begin
        Delivered = erlang:trace_delivered(Pid),
        receive {trace_delivered, Pid, Delivered} -> ok end
    end || Pid <- maps:keys(known())],
    Seen = drain(known(), []),
    Answers = put(answers, []),
    [[" ", Event] || {_, Event} <- lists:keysort(1, Seen)] ++
        [io_lib:format(" ?~s=~s", [join(Path), Answer]) || {Path, Answer} <- Answers].

known() ->
    receive {supervisor, Pid, Path} -> put(paths, (get(paths))#{Pid => Path}), known()
    after 0 -> get(paths)
    end.

drain(Paths, Seen) ->
    receive
        {trace, Sup, send, {start, Id, {ok, Pid}}, _} ->
            put({child, Sup, Pid}, Id),
            drain(Paths, [event(Paths, Sup, "+", Id, "") | Seen]);
        {trace, Sup, send, {start, Id, ignore}, _} ->
            drain(Paths, [event(Paths, Sup, "~", Id, "") | Seen]);
        {trace, Sup, send, {start, Id, {error, _}}, _} ->
            drain(Paths, [event(Paths, Sup, "!", Id, "") | Seen]);
        {trace, Sup, 'receive', {'DOWN', _, process, Pid, Reason}} ->
            drain(Paths, gone(Paths, Sup, Pid, Reason) ++ Seen);
        {trace, Sup, 'receive', {'EXIT', Pid, Reason}} ->
            drain(Paths, gone(Paths, Sup, Pid, Reason) ++ Seen);
        {trace, _, _, _} -> drain(Paths, Seen);
        {trace, _, _, _, _} -> drain(Paths, Seen);
        {start, _, _} -> drain(Paths, Seen)
    after 0 -> lists:reverse(Seen)
    end.

%% The first word of an end counts, as both a link and a monitor tell of it.
gone(_, _, _, noproc) -> [];
gone(Paths, Sup, Pid, Reason) ->
    case erase({child, Sup, Pid}) of
        undefined -> [];
        Id -> [event(Paths, Sup, "-", Id, ":" ++ class(Reason))]
    end.

event(Paths, Sup, Sign, Id, More) ->
    Path = maps:get(Sup, Paths),
    {Path, [Sign, join(Path ++ [Id]), More]}.

class(normal) -> "normal";
class(shutdown) -> "shutdown";
class({shutdown, _}) -> "shutdown";
class(killed) -> "killed";
class(_) -> "error".

join(Path) -> lists:join("/", [atom_to_list(Id) || Id <- Path]).

standing(false, undefined) -> " -";
standing(false, _) -> [" ended ", class(get(ended))];
standing(true, Root) -> children(Root, []).

children(Pid, Path) ->
    Children = named(call(Pid, which_children)),
    Path =:= [] andalso put(last, Children),
    [{specs, Specs}, {active, Active}, {supervisors, Sups}, {workers, W}] = call(Pid, count_children),
    %% There is one spec for all dynamic children, and one that is terminated while it restarts is taken off the
    %% active ones for ever.
    {S, A} = case Path =:= [] andalso simple(get(number)) of
        true -> {Sups + W, length([up || {_, Child, _, _} <- Children, is_pid(Child)])};
        false -> {Specs, Active}
    end,
    [io_lib:format(" ~s[~b ~b ~b ~b]", [join(Path), S, A, Sups, W]),
     [[" ", join(Path ++ [Id]), case Child of undefined -> "=undefined"; restarting -> "=restarting"; _ -> "=running" end]
      || {Id, Child, _, _} <- Children],
     [children(Child, Path ++ [Id]) || {Id, Child, supervisor, _} <- Children, is_pid(Child)]].
